//! Tekton: its configuration applied from its own Go module, its webhook and its controller.
//!
//! Arguments and environment are read from the Deployments in Tekton's `config/`, so a newer Tekton
//! brings its own.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use kube::{
    Api, Client,
    api::PostParams,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

use crate::{
    access::Access,
    apply,
    build::Binaries,
    control_plane::Options,
    kubernetes::{Kubernetes, TEKTON_ACCOUNTS},
    pki, ports,
    process::{Process, Program},
    wait,
};

const NAMESPACE: &str = "tekton-pipelines";
const WEBHOOK_SERVICE: &str = "tekton-pipelines-webhook";
/// Within the services' range, which is on loopback.
pub(crate) const WEBHOOK_ADDRESS: &str = "127.0.1.10";
const READY_LIMIT: Duration = Duration::from_secs(300);

/// Tekton's running processes.
pub(crate) struct Tekton {
    _controller: Process,
    _webhook: Option<Process>,
}

/// `pipelineruns.tekton.dev/v1`.
#[must_use]
pub fn pipeline_run_resource() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("tekton.dev", "v1", "PipelineRun"))
}

/// `taskruns.tekton.dev/v1`.
#[must_use]
pub fn task_run_resource() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("tekton.dev", "v1", "TaskRun"))
}

impl Tekton {
    /// Applies the configuration, starts the processes and waits until a run can be created.
    pub(crate) async fn start(
        binaries: &Binaries,
        options: &Options,
        folder: &Path,
        kubernetes: &Kubernetes,
        client: &Client,
    ) -> Result<Self> {
        let ports = Ports::free()?;
        let webhook_port = options.tekton_webhook.then_some(ports.webhook);
        let objects = configuration(&binaries.tekton_config, webhook_port)?;
        let (first, rest): (Vec<_>, Vec<_>) = objects
            .into_iter()
            .partition(|object| kind(object) == "Namespace");
        apply::apply(client, &first).await?;
        apply::apply(client, &rest).await?;

        let start = |index: usize,
                     name,
                     binary: &Path,
                     deployment: &str,
                     extra: BTreeMap<String, String>| {
            let account = TEKTON_ACCOUNTS.get(index).context("no such account")?;
            let token = kubernetes
                .tekton_tokens
                .get(index)
                .context("no such token")?;
            let config = folder.join(format!("{account}.kubeconfig"));
            write_kubeconfig(kubernetes.access(), token, &config)?;
            let mut program = deployed(
                &binaries.tekton_config.join(deployment),
                name,
                binary,
                options,
            )?;
            program.environment.extend(extra);
            program.arguments.extend([
                "-kubeconfig".into(),
                config.display().to_string(),
                "-disable-ha".into(),
            ]);
            if let Some(qps) = options.tekton_qps {
                program.arguments.push(format!("-kube-api-qps={qps}"));
                program
                    .arguments
                    .push(format!("-kube-api-burst={}", qps * 2));
            }
            program.start(folder)
        };
        let mut webhook = match options.tekton_webhook {
            true => Some(start(
                1,
                "tekton-webhook",
                &binaries.tekton_webhook,
                "webhook.yaml",
                ports.of_webhook(),
            )?),
            false => None,
        };
        let mut controller = start(
            0,
            "tekton-controller",
            &binaries.tekton_controller,
            "controller.yaml",
            ports.of_controller(),
        )?;

        wait::until("a Tekton that takes runs", READY_LIMIT, async || {
            controller.check()?;
            if let Some(webhook) = &mut webhook {
                webhook.check()?;
            }
            let ready = takes_runs(client, options.tekton_webhook).await
                && listens(ports.controller_probes).await
                && is_discovered(client).await;
            Ok(ready.then_some(()))
        })
        .await
        .with_context(|| {
            let webhook = webhook.as_ref().map(Process::tail).unwrap_or_default();
            format!("the logs end with:\n{}\n{webhook}", controller.tail())
        })?;
        Ok(Self {
            _controller: controller,
            _webhook: webhook,
        })
    }
}

/// The ports of Tekton's processes.
struct Ports {
    webhook: u16,
    webhook_probes: u16,
    webhook_profiling: u16,
    controller_probes: u16,
    controller_profiling: u16,
}

impl Ports {
    fn free() -> Result<Self> {
        let [
            webhook,
            webhook_probes,
            webhook_profiling,
            controller_probes,
            controller_profiling,
        ] = ports::reserve_all()?;
        Ok(Self {
            webhook,
            webhook_probes,
            webhook_profiling,
            controller_probes,
            controller_profiling,
        })
    }

    fn of_webhook(&self) -> BTreeMap<String, String> {
        let mut variables = variables(self.webhook_probes, self.webhook_profiling);
        variables.insert("WEBHOOK_PORT".into(), self.webhook.to_string());
        variables
    }

    fn of_controller(&self) -> BTreeMap<String, String> {
        variables(self.controller_probes, self.controller_profiling)
    }
}

fn variables(probes: u16, profiling: u16) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("PROBES_PORT".into(), probes.to_string()),
        ("PROFILING_PORT".into(), profiling.to_string()),
        ("SYSTEM_NAMESPACE".into(), NAMESPACE.into()),
        ("POD_NAME".into(), "penstock-tests".into()),
    ])
}

fn write_kubeconfig(access: &Access, token: &str, path: &Path) -> Result<()> {
    pki::write_secret(path, &access.kubeconfig_for(token))
}

fn kind(object: &DynamicObject) -> &str {
    object
        .types
        .as_ref()
        .map_or("", |types| types.kind.as_str())
}

/// All objects of Tekton's configuration that a control plane without nodes can use, with the
/// webhooks led to `webhook_port` or left out.
fn configuration(config: &Path, webhook_port: Option<u16>) -> Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for folder in [
        config.to_owned(),
        config.join("100-namespace"),
        config.join("300-crds"),
    ] {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("can't read {}", folder.display()))?
        {
            let path = entry.context("can't read Tekton's configuration")?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("can't read {}", path.display()))?;
                objects
                    .extend(apply::parse(&text).with_context(|| format!("in {}", path.display()))?);
            }
        }
    }
    objects.retain(|object| match kind(object) {
        "Deployment" | "HorizontalPodAutoscaler" | "Service" => false,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => webhook_port.is_some(),
        _ => true,
    });
    for object in &mut objects {
        match kind(object) {
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
                for webhook in object
                    .data
                    .pointer_mut("/webhooks")
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .flatten()
                {
                    set_port(webhook.pointer_mut("/clientConfig/service"), webhook_port);
                }
            }
            "CustomResourceDefinition" => match webhook_port {
                Some(_) => set_port(
                    object
                        .data
                        .pointer_mut("/spec/conversion/webhook/clientConfig/service"),
                    webhook_port,
                ),
                None => {
                    if let Some(conversion) = object.data.pointer_mut("/spec/conversion") {
                        *conversion = json!({ "strategy": "None" });
                    }
                }
            },
            // Two Tektons on one machine would fight for the metrics' fixed port.
            "ConfigMap" if object.metadata.name.as_deref() == Some("config-observability") => {
                if let Some(protocol) = object.data.pointer_mut("/data/metrics-protocol") {
                    *protocol = json!("none");
                }
            }
            _ => {}
        }
    }
    if let Some(port) = webhook_port {
        objects.push(service(port)?);
    }
    Ok(objects)
}

fn set_port(service: Option<&mut Value>, port: Option<u16>) {
    if let Some(service) = service.and_then(Value::as_object_mut) {
        service.insert("port".into(), json!(port));
    }
}

/// A Service whose address and port are the webhook process itself.
fn service(port: u16) -> Result<DynamicObject> {
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": WEBHOOK_SERVICE, "namespace": NAMESPACE },
        "spec": {
            "clusterIP": WEBHOOK_ADDRESS,
            "ports": [{ "name": "https-webhook", "port": port, "targetPort": port }],
        },
    }))
    .context("our Service is not an object")
}

/// The program that the Deployment in `file` would run, with `binary` in the place of its image.
fn deployed(file: &Path, name: &'static str, binary: &Path, options: &Options) -> Result<Program> {
    let text =
        fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    let deployment = apply::parse(&text)?
        .into_iter()
        .find(|object| kind(object) == "Deployment")
        .with_context(|| format!("{} has no Deployment", file.display()))?;
    let container = deployment
        .data
        .pointer("/spec/template/spec/containers/0")
        .context("a Deployment without containers")?;

    let list = |key: &str| {
        container
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let arguments = list("args").filter_map(Value::as_str).map(image).collect();
    let environment = list("env")
        .filter_map(|entry| {
            Some((
                entry.get("name")?.as_str()?.into(),
                entry.get("value")?.as_str()?.into(),
            ))
        })
        // The files for registries' certificates are mounted into pods; there is no pod.
        .filter(|(name, _): &(String, String)| !name.starts_with("SSL_CERT"))
        .collect();
    Ok(Program {
        name,
        binary: binary.to_owned(),
        arguments,
        environment,
        core: options.pin_to_core,
    })
}

/// An argument as Tekton's release would have it: an image by digest for a Go package. No kubelet
/// pulls them, so any digest will do.
fn image(argument: &str) -> String {
    match argument.strip_prefix("ko://") {
        Some(package) => format!("{}@sha256:{}", package.to_lowercase(), "0".repeat(64)),
        None => argument.to_owned(),
    }
}

async fn listens(port: u16) -> bool {
    tokio::net::TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))
        .await
        .is_ok()
}

/// The API server says that it has Tekton's kinds: some time after it takes objects of them.
async fn is_discovered(client: &Client) -> bool {
    let listed = client.list_api_group_resources("tekton.dev/v1").await;
    listed.is_ok_and(|listed| listed.resources.iter().any(|it| it.name == "pipelineruns"))
}

/// Creates a run without storing it, and looks whether the webhook has set the defaults.
async fn takes_runs(client: &Client, defaults_expected: bool) -> bool {
    let runs: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), "default", &pipeline_run_resource());
    let run = json!({
        "apiVersion": "tekton.dev/v1",
        "kind": "PipelineRun",
        "metadata": { "name": "probe" },
        "spec": { "pipelineRef": { "name": "probe" } },
    });
    let Ok(run) = serde_json::from_value(run) else {
        return false;
    };
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match runs.create(&params, &run).await {
        Ok(stored) => {
            !defaults_expected || stored.data.pointer("/spec/timeouts/pipeline").is_some()
        }
        Err(_) => false,
    }
}
