//! What a PipelineRun may hold: one table, field by field.
//!
//! The names are those of Tekton v1.15 (`pipeline/v1`) and Kubernetes 1.36 (`core/v1`). What stands in no object here is refused
//! with its path, so a field that a later Tekton adds stays out until somebody has thought about it. A field with a rule
//! (`name @ Rule: shape`) is judged by [`super::rules`] before its shape is walked.
//! The table is cut where one kind of object ends and another begins.

/// What a value must look like.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// Text, a number or a truth value.
    Scalar,
    /// A parameter's value: a scalar, a list of them or a map of them.
    Value,
    /// A list.
    List(&'static Shape),
    /// An object with keys of the author's choosing.
    Map(&'static Shape),
    /// An object with these fields and no others.
    Object(&'static &'static [Field]),
}

/// A field of an object.
pub(super) struct Field {
    /// As JSON writes it.
    pub(super) name: &'static str,
    /// What else must hold.
    pub(super) rule: Option<Rule>,
    /// What it looks like.
    pub(super) shape: Shape,
}

/// What must hold for a field beside its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The host's: what the manifest says is left out.
    Host,
    /// `tekton.dev/v1`.
    ApiVersion,
    /// `PipelineRun`.
    Kind,
    /// Keys that the place's policy names, none of them with a reserved prefix.
    Labels,
    /// The same; the descriptions that Tekton's catalog puts on tasks are not reserved.
    Annotations,
    /// The place's account, unless the policy allows another.
    Account,
    /// Only where the policy allows pod templates.
    PodTemplate,
    /// Hardening is always fine, the rest only where the policy allows it.
    Security,
    /// A way onto the node, such as a host port.
    HostAccess,
    /// Name of a Secret.
    Secret,
    /// Name of a ConfigMap.
    ConfigMap,
    /// Name of a PersistentVolumeClaim.
    Claim,
    /// A mount of the node's file system.
    HostPath,
    /// Name of a CSI driver.
    Driver,
    /// A projected service account token.
    Token,
    /// An image.
    Image,
    /// A reference to a task, a step action or a pipeline.
    Reference,
}

macro_rules! objects {
    ($($(#[$doc:meta])* $object:ident { $($field:ident $(@ $rule:ident)?: $shape:expr),* $(,)? })*) => {$(
        $(#[$doc])*
        pub(in crate::admit) static $object: &[super::Field] = &[
            $(super::Field { name: stringify!($field), rule: objects!(@rule $($rule)?), shape: $shape }),*
        ];
    )*};
    (@rule) => { None };
    (@rule $rule:ident) => { Some(super::Rule::$rule) };
}

// The macro must stand before them.
mod container;
mod pod;
mod tekton;
mod volume;

pub(super) use self::tekton::PIPELINE_RUN;

/// What to do about a field that is known and yet not allowed, or that many people write in the wrong place.
pub(super) fn remedy(field: &str) -> Option<&'static str> {
    Some(match field {
        "status" => "leave it out: only the cluster and the host write a run's status",
        "managedBy" => "leave it out: runs are Tekton's own to reconcile",
        "ownerReferences" | "finalizers" | "uid" | "resourceVersion" | "creationTimestamp"
        | "generation" | "managedFields" | "selfLink" | "deletionTimestamp" => {
            "leave it out: Kubernetes and the host keep it"
        }
        "serviceAccountName" | "serviceAccountNames" => {
            "leave it out: pods get the place's `run-as` account"
        }
        "timeout" => "write `spec.timeouts.pipeline` instead, as `tekton.dev/v1` does",
        "resources" => "write `computeResources` instead, as `tekton.dev/v1` does",
        "bundle" => "write `resolver: bundles` with its params instead, as `tekton.dev/v1` does",
        "spec" | "apiVersion" | "kind" => {
            "custom tasks are not built yet in this release: write a task of steps"
        }
        "volumeName" | "selector" | "dataSource" | "dataSourceRef" => {
            "leave it out: a claim of a run is always a new and empty one"
        }
        "host" => "leave it out: a probe asks the pod itself",
        "nfs"
        | "iscsi"
        | "cephfs"
        | "rbd"
        | "glusterfs"
        | "fc"
        | "flexVolume"
        | "cinder"
        | "gcePersistentDisk"
        | "awsElasticBlockStore"
        | "azureFile"
        | "azureDisk"
        | "vsphereVolume"
        | "portworxVolume"
        | "quobyte"
        | "scaleIO"
        | "storageos"
        | "flocker"
        | "photonPersistentDisk"
        | "gitRepo" => "use `emptyDir`, a claim, or a CSI driver that the place allows",
        "clusterTrustBundle" | "podCertificate" => {
            "project a Secret, a ConfigMap or the downward API instead"
        }
        _ => return None,
    })
}
