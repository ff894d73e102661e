//! etcd, the API server and its controller manager: their arguments, and when they are ready.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};

use crate::{
    access::{AUDIT_LOG, Access},
    build::Binaries,
    control_plane::Options,
    pki, ports,
    process::{Process, Program},
    wait,
};

/// The services' addresses. They are on loopback, so a Service leads straight to a process here.
const SERVICE_RANGE: &str = "127.0.1.0/24";
const READY_LIMIT: Duration = Duration::from_secs(120);

/// Who Tekton's processes are; their rights are those of Tekton's own ClusterRoles.
pub(crate) const TEKTON_ACCOUNTS: [&str; 2] =
    ["tekton-pipelines-controller", "tekton-pipelines-webhook"];

/// Only what tests look for: who made and changed runs, pods and tokens. Never a body.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    verbs: [create, update, patch, delete]
    resources:
      - { group: tekton.dev }
      - { group: '', resources: [pods, serviceaccounts/token] }
  - level: None
";

/// The running Kubernetes part. The fields are dropped in their order: clients before servers.
pub(crate) struct Kubernetes {
    controller_manager: Option<Process>,
    api_server: Option<Process>,
    etcd: Process,
    api_server_program: Program,
    folder: PathBuf,
    access: Access,
    /// A token for each of [`TEKTON_ACCOUNTS`].
    pub(crate) tekton_tokens: [String; 2],
}

impl Kubernetes {
    /// Starts all three and waits until the API server is ready.
    pub(crate) async fn start(
        binaries: &Binaries,
        options: &Options,
        folder: &Path,
    ) -> Result<Self> {
        let [etcd_port, peer_port, port] = ports::reserve_all()?;
        let etcd = etcd(binaries, options, folder, etcd_port, peer_port).start(folder)?;

        let authority = pki::authority()?;
        let (private, public) = pki::service_account_key()?;
        let admin = pki::token();
        let tekton_tokens = [pki::token(), pki::token()];
        for (name, text) in [
            ("ca.pem", &authority.ca),
            ("apiserver.pem", &authority.server.certificate),
            ("apiserver-key.pem", &authority.server.key),
            ("service-accounts-key.pem", &private),
            ("service-accounts.pem", &public),
            ("tokens.csv", &token_file(&admin, &tekton_tokens)),
            ("audit-policy.yaml", &AUDIT_POLICY.to_owned()),
        ] {
            pki::write_secret(&folder.join(name), text)?;
        }
        let url = format!("https://127.0.0.1:{port}");
        let access = Access::create(url, authority.ca, admin, &folder.join("kubeconfig"))?;

        let mut kubernetes = Self {
            controller_manager: None,
            api_server: None,
            etcd,
            api_server_program: api_server(binaries, options, folder, etcd_port, port),
            folder: folder.to_owned(),
            access,
            tekton_tokens,
        };
        kubernetes.start_api_server().await?;
        kubernetes.controller_manager =
            Some(controller_manager(binaries, options, folder).start(folder)?);
        Ok(kubernetes)
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Fails if one of the processes has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.etcd.check()?;
        for process in [&mut self.api_server, &mut self.controller_manager]
            .into_iter()
            .flatten()
        {
            process.check()?;
        }
        Ok(())
    }

    /// Kills the API server, waits for its end and starts it again on the same port.
    pub(crate) async fn restart_api_server(&mut self) -> Result<()> {
        self.api_server = None;
        self.start_api_server().await
    }

    async fn start_api_server(&mut self) -> Result<()> {
        self.api_server = Some(self.api_server_program.start(&self.folder)?);
        let client = self.access.client().await?;
        let waited = wait::until("a ready API server", READY_LIMIT, async || {
            self.check()?;
            let ready = is_ready(&client).await && has_its_namespaces(&client).await;
            Ok(ready.then_some(()))
        })
        .await;
        let tail = self
            .api_server
            .as_ref()
            .map(Process::tail)
            .unwrap_or_default();
        waited.with_context(|| format!("the API server did not start; its log ends with:\n{tail}"))
    }
}

async fn is_ready(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else {
        return false;
    };
    client
        .request_text(request)
        .await
        .is_ok_and(|answer| answer == "ok")
}

/// A new API server makes its own namespaces, some time after it says that it is ready.
async fn has_its_namespaces(client: &Client) -> bool {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.get("default").await.is_ok()
}

fn token_file(admin: &str, tekton: &[String; 2]) -> String {
    let mut lines = format!("{admin},admin,admin,\"system:masters\"\n");
    for (account, token) in TEKTON_ACCOUNTS.iter().zip(tekton) {
        let user = format!("system:serviceaccount:tekton-pipelines:{account}");
        let groups = "system:serviceaccounts,system:serviceaccounts:tekton-pipelines";
        lines.push_str(&format!("{token},{user},{account},\"{groups}\"\n"));
    }
    lines
}

fn etcd(
    binaries: &Binaries,
    options: &Options,
    folder: &Path,
    port: u16,
    peer_port: u16,
) -> Program {
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    Program {
        name: "etcd",
        binary: binaries.etcd.clone(),
        arguments: vec![
            format!("--data-dir={}", folder.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync=true".into(),
            "--log-level=warn".into(),
        ],
        environment: BTreeMap::new(),
        core: options.pin_to_core,
    }
}

fn api_server(
    binaries: &Binaries,
    options: &Options,
    folder: &Path,
    etcd_port: u16,
    port: u16,
) -> Program {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut arguments = vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        "--bind-address=127.0.0.1".into(),
        // Nothing reads the endpoints of the Service `kubernetes`, and loopback is refused there.
        "--endpoint-reconciler-type=none".into(),
        "--advertise-address=192.0.2.1".into(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", file("apiserver")),
        format!("--tls-cert-file={}", file("apiserver.pem")),
        format!("--tls-private-key-file={}", file("apiserver-key.pem")),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!(
            "--service-account-key-file={}",
            file("service-accounts.pem")
        ),
        format!(
            "--service-account-signing-key-file={}",
            file("service-accounts-key.pem")
        ),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=RBAC".into(),
        "--allow-privileged=true".into(),
        "--kubelet-preferred-address-types=InternalIP".into(),
    ];
    if options.audit {
        arguments.push(format!("--audit-policy-file={}", file("audit-policy.yaml")));
        arguments.push(format!("--audit-log-path={}", file(AUDIT_LOG)));
        // Begun anew at 100 MB, as is the default, it would lack what a test looks for in it.
        arguments.push("--audit-log-maxsize=10000".into());
    }
    Program {
        name: "kube-apiserver",
        binary: binaries.kube_apiserver.clone(),
        arguments,
        environment: BTreeMap::new(),
        core: options.pin_to_core,
    }
}

fn controller_manager(binaries: &Binaries, options: &Options, folder: &Path) -> Program {
    let file = |name: &str| folder.join(name).display().to_string();
    Program {
        name: "kube-controller-manager",
        binary: binaries.kube_controller_manager.clone(),
        arguments: vec![
            format!("--kubeconfig={}", file("kubeconfig")),
            "--controllers=serviceaccount,garbagecollector,namespace".into(),
            format!(
                "--service-account-private-key-file={}",
                file("service-accounts-key.pem")
            ),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
        ],
        environment: BTreeMap::new(),
        core: options.pin_to_core,
    }
}
