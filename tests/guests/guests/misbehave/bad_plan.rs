//! Plans that no host should take.

use penstock_guests::Fault;
use penstock_sdk::{
    Comment, CommitStatus, Extension, Plan, RequestApproval, StartRun, StatusState,
};

const MANIFEST: &str = r#"{"apiVersion":"tekton.dev/v1","kind":"PipelineRun","metadata":{},"spec":{"pipelineSpec":{"tasks":[{"name":"build","taskSpec":{"steps":[{"image":"busybox","script":"true"}]}}]}}}"#;

/// A plan with this fault and no other.
pub(crate) fn with(fault: Fault) -> Plan {
    let plan = Plan::because("told to answer a bad plan");
    let long = || "x".repeat(100_000);
    let run = || StartRun::new("build", MANIFEST);
    let comment = || Comment::on_merge_request(1, "text");
    match fault {
        Fault::DuplicateKeys => plan
            .start_run("run/build", run())
            .start_run("run/build", run()),
        Fault::EmptyKey => plan.start_run("", run()),
        Fault::LongKey => plan.comment(long(), comment()),
        Fault::LongStatusName => plan.start_run("run/build", run().status_name(long())),
        Fault::ControlCharacters => plan
            .reason("first\r\nsecond\u{1b}[31m\0")
            .comment("comment/\n\u{7}", comment())
            .start_run("run/build", run().status_name("build\n\u{202e}")),
        Fault::MalformedCommit => plan.commit_status(
            "status/build",
            CommitStatus::new("../../main", "build", StatusState::Success, "done"),
        ),
        Fault::UnknownGate => plan.start_run("run/build", run().gate("gate/none")),
        Fault::SharedGate => plan
            .request_approval("gate/one", RequestApproval::new("May it?", ""))
            .start_run("run/a", run().gate("gate/one"))
            .start_run("run/b", run().gate("gate/one")),
        Fault::UnknownExtra => {
            let mut run = run();
            run.extras.push(("priority".to_owned(), "1".to_owned()));
            plan.start_run("run/build", run)
        }
        Fault::UnknownExtension => plan.effect(
            "extension/one",
            Extension {
                kind: "launch".to_owned(),
                json: "{}".to_owned(),
            },
        ),
        Fault::MalformedManifest => {
            plan.start_run("run/build", StartRun::new("build", "spec: [\n  broken: {"))
        }
    }
}
