//! Inputs to begin with: what the tests and the documentation of this repository use already.

use std::path::{Path, PathBuf};

use crate::tekton::EVENTS;

mod tekton;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Files of a folder, by name.
fn files(folder: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(repository().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// Texts in a file between these two marks.
fn between(file: &str, open: &str, close: &str) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(repository().join(file)).unwrap();
    text.split(open)
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(close)?.0.as_bytes().to_vec()))
        .collect()
}

/// GitLab's payloads, under the headers that it sends.
pub fn webhook() -> Vec<Vec<u8>> {
    let headers = b"X-Gitlab-Event: Push Hook\nX-Gitlab-Instance: https://gitlab.example.com\nIdempotency-Key: 1b9d6bcd\nX-Gitlab-Token: wrong\n\n";
    let signed = b"X-Gitlab-Event: Push Hook\nwebhook-id: 1b9d6bcd\nwebhook-timestamp: 1800000000\nwebhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4= v1,AAAA\n\n";
    let payloads = files("host/gitlab/tests/fixtures");
    assert!(payloads.len() >= 39, "payloads are missing");
    payloads
        .iter()
        .flat_map(|body| [headers.as_slice(), signed].map(|head| [head, body].concat()))
        .collect()
}

/// Components of every kind, some without what a plugin must have, and beginnings of them.
pub fn component() -> Vec<Vec<u8>> {
    let settings = "export penstock:plugin/settings@0.1.0;";
    let mut seeds: Vec<Vec<u8>> = [
        format!("{settings} export penstock:plugin/trigger@0.1.0;"),
        format!("{settings} export penstock:plugin/approval@0.1.0;"),
        format!("{settings} export penstock:plugin/rotation@0.1.0;"),
        format!("{settings} export penstock:plugin/trigger@0.1.0; export penstock:plugin/approval@0.1.0;"),
        format!("import penstock:plugin/log@0.1.0; import penstock:plugin/delivery@0.1.0; {settings} export penstock:plugin/trigger@0.1.0;"),
        settings.to_owned(),
    ]
    .iter()
    .map(|items| penstock_written_guests::empty(items))
    .collect();
    seeds.push(penstock_written_guests::answers_its_state());
    seeds.push(wat::parse_str("(module (func (loop (br 0))) (start 0))").unwrap());
    seeds.push(wat::parse_str("(component)").unwrap());
    seeds.push(b"\0asm\x0d\0\x01\0".to_vec());
    seeds
}

/// Results of `decide` as they lie in memory: the tag of the result, then the plan's lists as pointers and lengths.
pub fn lift() -> Vec<Vec<u8>> {
    let words =
        |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|it| it.to_le_bytes()).collect() };
    let mut seeds = vec![
        words(&[0; 16]),
        // An error of each kind.
        words(&[1, 0, 1100, 1]),
        words(&[1, 1, 1100, 2]),
        words(&[1, 2, 1100, 7]),
        // Lists that are as long as memory, and longer.
        words(&[0, 1100, u32::MAX, 1100, 1, 1100, 1]),
        words(&[0, 1100, 8, 1100, 8, 1100, 8]),
        words(&[0, 1100, 1, 1200, 1, 1300, 1, 0, 0]),
    ];
    // Effects of each kind, with memory behind them that begins with small tags and pointers.
    for kind in 0..7_u32 {
        let mut memory = words(&[0, 1100, 2, 1500, 1, 1500, 1]);
        memory.resize(76, 0);
        for _ in 0..40 {
            memory.extend(words(&[1600, 4, kind, 1600, 8, 1, 1600, 3, 0]));
        }
        memory.extend(b"a text that pointers lead to, long enough for each of them".repeat(4));
        seeds.push(memory);
    }
    seeds
}

/// The example, the configurations of the documentation, and those of the tests.
pub fn config() -> Vec<Vec<u8>> {
    let mut seeds = vec![std::fs::read(repository().join("examples/penstock.yaml")).unwrap()];
    seeds.extend(between("docs/configuration.md", "```yaml\n", "```"));
    seeds.extend(between(
        "host/server/src/config/tests.rs",
        "= \"\\\n",
        "\";\n",
    ));
    assert!(seeds.len() >= 4, "configurations are missing");
    seeds
}

/// Settings of the documentation as JSON, and expressions of the plugin's own tests in a rule.
pub fn rules() -> Vec<Vec<u8>> {
    let template = r#"{"apiVersion":"tekton.dev/v1","kind":"PipelineRun","spec":{"params":[{"name":"v","value":"$(tt.params.v)"}]}}"#;
    let rule = |when: &str, value: &str| {
        serde_json::json!({ "rules": [{
            "name": "build",
            "when": when,
            "let": { "short": "event.commit.truncate(8)" },
            "params": { "v": value, "w": { "cel": when } },
            "template": template,
        }] })
        .to_string()
        .into_bytes()
    };
    let whens = [
        "event.code_changed && !event.branch.startsWith('wip/')",
        "event.kind == 'push' && changes.modified.exists(path, path.startsWith('docs/'))",
        "has(body.commits) && body.commits.all(c, c.added.size() > 0)",
        "body.labels.parseJSON().team == 'core'",
        "header.canonical('x-gitlab-event') == 'Push Hook'",
        "event.tag.matches('^v[0-9]+[.][0-9]+$')",
        "int(event.tag.substring(1).split('.')[0]) > 1",
        "'docs/x'.pathChanged()",
    ];
    let values = [
        "$(event.commit)",
        "$(body.commits[0].added)",
        "$(extensions.short)-$(body.ref)",
        "$(header['X-Gitlab-Event'])",
    ];
    let mut seeds: Vec<Vec<u8>> = whens
        .iter()
        .flat_map(|when| values.map(|value| rule(when, value)))
        .collect();
    seeds.push(br#"{"rules":[{"name":"c","on":["note"],"when":"event.comment.startsWith('/test')","cancel":"superseded","comment":{"text":"seen"}}]}"#.to_vec());
    seeds
}

/// The folders of the plugin's own corpus, each for every event that there is.
pub fn tekton() -> Vec<Vec<u8>> {
    let root = repository().join("plugins/pipelines-as-code/tests/corpus");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    assert!(folders.len() >= 40, "folders are missing");
    folders
        .iter()
        .map(|folder| tekton::written(folder))
        .flat_map(|text| (0..EVENTS).map(move |choice| [&[choice], text.as_bytes()].concat()))
        .collect()
}

/// Runs with everything that a policy can allow and much that it can't, for each kind of place.
pub fn admit() -> Vec<Vec<u8>> {
    let head = r#""apiVersion":"tekton.dev/v1","kind":"PipelineRun""#;
    let step = |more: &str| {
        format!(
            r#"{{{head},"metadata":{{"generateName":"x-","labels":{{"example.com/a":"b"}}}},"spec":{{"params":[{{"name":"v","value":"x"}}],"pipelineSpec":{{"tasks":[{{"name":"t","taskSpec":{{"steps":[{{"name":"s","image":"alpine:3","script":"echo"{more}}}],"volumes":[{{"name":"v","emptyDir":{{}}}}]}}}}]}}}}}}"#
        )
    };
    let manifests = [
        format!(r#"{{{head},"spec":{{"pipelineRef":{{"name":"build"}}}}}}"#),
        step(""),
        step(r#","securityContext":{"privileged":true}"#),
        step(r#","env":[{"name":"T","valueFrom":{"secretKeyRef":{"name":"ci-token","key":"k"}}}]"#),
        step(r#","volumeMounts":[{"name":"v","mountPath":"/data"}]"#),
        format!(
            r#"{{{head},"metadata":{{"name":"n","namespace":"kube-system","ownerReferences":[{{}}],"finalizers":["x"]}},"spec":{{"pipelineRef":{{"resolver":"git","params":[{{"name":"url","value":"https://x"}}]}},"serviceAccountName":"admin","managedBy":"x"}},"status":{{}}}}"#
        ),
        format!(
            r#"{{{head},"spec":{{"pipelineRef":{{"name":"b"}},"taskRunTemplate":{{"serviceAccountName":"deployer","podTemplate":{{"hostNetwork":true}}}},"taskRunSpecs":[{{"pipelineTaskName":"t","serviceAccountName":"admin"}}],"workspaces":[{{"name":"w","secret":{{"secretName":"ci-x"}}}},{{"name":"p","persistentVolumeClaim":{{"claimName":"c"}}}}],"timeouts":{{"pipeline":"1h"}}}}}}"#
        ),
        "apiVersion: tekton.dev/v1\nkind: PipelineRun\nspec:\n  pipelineRef: { name: build }\n  workspaces:\n    - name: w\n      hostPath: { path: /etc }\n".to_owned(),
        "apiVersion: &v tekton.dev/v1\nkind: PipelineRun\nspec: { params: [ { name: a, value: *v } ], pipelineRef: { name: 0x1f } }\n".to_owned(),
    ];
    manifests
        .iter()
        .flat_map(|manifest| (0..8).map(|choice| [&[choice], manifest.as_bytes()].concat()))
        .collect()
}
