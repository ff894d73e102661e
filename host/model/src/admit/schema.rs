//! What a PipelineRun may hold: one table, field by field.
//!
//! The names are those of Tekton v1.15 (`pipeline/v1`) and Kubernetes 1.36 (`core/v1`). What stands in no object here is refused
//! with its path, so a field that a later Tekton adds stays out until somebody has thought about it. A field with a rule
//! (`name @ Rule: shape`) is judged by [`super::rules`] before its shape is walked.

use Shape::{List, Map, Object, Scalar, Value};

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
        pub(super) static $object: &[Field] = &[
            $(Field { name: stringify!($field), rule: objects!(@rule $($rule)?), shape: $shape }),*
        ];
    )*};
    (@rule) => { None };
    (@rule $rule:ident) => { Some(Rule::$rule) };
}

objects! {
    /// The root.
    PIPELINE_RUN {
        apiVersion @ ApiVersion: Scalar,
        kind @ Kind: Scalar,
        metadata: Object(&METADATA),
        spec: Object(&PIPELINE_RUN_SPEC),
    }

    METADATA {
        name @ Host: Scalar,
        generateName @ Host: Scalar,
        namespace @ Host: Scalar,
        labels @ Labels: Map(&Scalar),
        annotations @ Annotations: Map(&Scalar),
    }

    PIPELINE_RUN_SPEC {
        pipelineRef @ Reference: Object(&REFERENCE),
        pipelineSpec: Object(&PIPELINE_SPEC),
        params: List(&Object(&PARAM)),
        timeouts: Object(&TIMEOUTS),
        taskRunTemplate: Object(&TASK_RUN_TEMPLATE),
        workspaces: List(&Object(&WORKSPACE_BINDING)),
        taskRunSpecs: List(&Object(&TASK_RUN_SPEC)),
    }

    TIMEOUTS {
        pipeline: Scalar,
        tasks: Scalar,
        finally: Scalar,
    }

    TASK_RUN_TEMPLATE {
        podTemplate @ PodTemplate: Object(&POD_TEMPLATE),
        serviceAccountName @ Host: Scalar,
    }

    TASK_RUN_SPEC {
        pipelineTaskName: Scalar,
        serviceAccountName @ Account: Scalar,
        podTemplate @ PodTemplate: Object(&POD_TEMPLATE),
        stepSpecs: List(&Object(&NAMED_RESOURCES)),
        sidecarSpecs: List(&Object(&NAMED_RESOURCES)),
        metadata: Object(&TASK_METADATA),
        computeResources: Object(&RESOURCES),
        timeout: Scalar,
    }

    NAMED_RESOURCES {
        name: Scalar,
        computeResources: Object(&RESOURCES),
    }

    TASK_METADATA {
        labels @ Labels: Map(&Scalar),
        annotations @ Annotations: Map(&Scalar),
    }

    /// `name` for what stands in the namespace, `resolver` and `params` for what lies elsewhere.
    REFERENCE {
        name: Scalar,
        kind: Scalar,
        apiVersion: Scalar,
        resolver: Scalar,
        params: List(&Object(&PARAM)),
    }

    PARAM {
        name: Scalar,
        value: Value,
    }

    PIPELINE_SPEC {
        displayName: Scalar,
        description: Scalar,
        tasks: List(&Object(&PIPELINE_TASK)),
        params: List(&Object(&PARAM_SPEC)),
        workspaces: List(&Object(&PIPELINE_WORKSPACE)),
        results: List(&Object(&RESULT)),
        finally: List(&Object(&PIPELINE_TASK)),
    }

    PIPELINE_WORKSPACE {
        name: Scalar,
        description: Scalar,
        optional: Scalar,
    }

    RESULT {
        name: Scalar,
        type: Scalar,
        description: Scalar,
        properties: Map(&Object(&PROPERTY)),
        value: Value,
    }

    PROPERTY {
        type: Scalar,
    }

    PARAM_SPEC {
        name: Scalar,
        type: Scalar,
        description: Scalar,
        properties: Map(&Object(&PROPERTY)),
        default: Value,
        enum: List(&Scalar),
    }

    PIPELINE_TASK {
        name: Scalar,
        displayName: Scalar,
        description: Scalar,
        taskRef @ Reference: Object(&REFERENCE),
        taskSpec: Object(&EMBEDDED_TASK),
        when: List(&Object(&WHEN)),
        retries: Scalar,
        runAfter: List(&Scalar),
        params: List(&Object(&PARAM)),
        matrix: Object(&MATRIX),
        workspaces: List(&Object(&TASK_WORKSPACE)),
        timeout: Scalar,
        pipelineRef @ Reference: Object(&REFERENCE),
        pipelineSpec: Object(&PIPELINE_SPEC),
        onError: Scalar,
    }

    WHEN {
        input: Scalar,
        operator: Scalar,
        values: List(&Scalar),
        cel: Scalar,
    }

    MATRIX {
        params: List(&Object(&PARAM)),
        include: List(&Object(&MATRIX_INCLUDE)),
    }

    MATRIX_INCLUDE {
        name: Scalar,
        params: List(&Object(&PARAM)),
    }

    TASK_WORKSPACE {
        name: Scalar,
        workspace: Scalar,
        subPath: Scalar,
    }

    /// A task written out. `apiVersion`, `kind` and `spec`, which make it a custom task, are left out on purpose.
    EMBEDDED_TASK {
        metadata: Object(&TASK_METADATA),
        params: List(&Object(&PARAM_SPEC)),
        displayName: Scalar,
        description: Scalar,
        steps: List(&Object(&STEP)),
        volumes: List(&Object(&VOLUME)),
        stepTemplate: Object(&STEP_TEMPLATE),
        sidecars: List(&Object(&SIDECAR)),
        workspaces: List(&Object(&WORKSPACE)),
        results: List(&Object(&RESULT)),
    }

    WORKSPACE {
        name: Scalar,
        description: Scalar,
        mountPath: Scalar,
        readOnly: Scalar,
        optional: Scalar,
    }

    STEP {
        name: Scalar,
        displayName: Scalar,
        image @ Image: Scalar,
        command: List(&Scalar),
        args: List(&Scalar),
        workingDir: Scalar,
        envFrom: List(&Object(&ENV_FROM)),
        env: List(&Object(&ENV)),
        computeResources: Object(&RESOURCES),
        volumeMounts: List(&Object(&VOLUME_MOUNT)),
        volumeDevices: List(&Object(&VOLUME_DEVICE)),
        imagePullPolicy: Scalar,
        securityContext @ Security: Object(&SECURITY_CONTEXT),
        script: Scalar,
        timeout: Scalar,
        workspaces: List(&Object(&WORKSPACE_USAGE)),
        onError: Scalar,
        stdoutConfig: Object(&OUTPUT),
        stderrConfig: Object(&OUTPUT),
        ref @ Reference: Object(&REFERENCE),
        params: List(&Object(&PARAM)),
        results: List(&Object(&RESULT)),
        when: List(&Object(&WHEN)),
    }

    OUTPUT {
        path: Scalar,
    }

    WORKSPACE_USAGE {
        name: Scalar,
        mountPath: Scalar,
    }

    STEP_TEMPLATE {
        image @ Image: Scalar,
        command: List(&Scalar),
        args: List(&Scalar),
        workingDir: Scalar,
        envFrom: List(&Object(&ENV_FROM)),
        env: List(&Object(&ENV)),
        computeResources: Object(&RESOURCES),
        volumeMounts: List(&Object(&VOLUME_MOUNT)),
        volumeDevices: List(&Object(&VOLUME_DEVICE)),
        imagePullPolicy: Scalar,
        securityContext @ Security: Object(&SECURITY_CONTEXT),
    }

    SIDECAR {
        name: Scalar,
        image @ Image: Scalar,
        command: List(&Scalar),
        args: List(&Scalar),
        workingDir: Scalar,
        ports: List(&Object(&PORT)),
        envFrom: List(&Object(&ENV_FROM)),
        env: List(&Object(&ENV)),
        computeResources: Object(&RESOURCES),
        volumeMounts: List(&Object(&VOLUME_MOUNT)),
        volumeDevices: List(&Object(&VOLUME_DEVICE)),
        livenessProbe: Object(&PROBE),
        readinessProbe: Object(&PROBE),
        startupProbe: Object(&PROBE),
        lifecycle: Object(&LIFECYCLE),
        terminationMessagePath: Scalar,
        terminationMessagePolicy: Scalar,
        imagePullPolicy: Scalar,
        securityContext @ Security: Object(&SECURITY_CONTEXT),
        stdin: Scalar,
        stdinOnce: Scalar,
        tty: Scalar,
        script: Scalar,
        workspaces: List(&Object(&WORKSPACE_USAGE)),
        restartPolicy: Scalar,
    }

    PORT {
        name: Scalar,
        containerPort: Scalar,
        protocol: Scalar,
        hostPort @ HostAccess: Scalar,
        hostIP @ HostAccess: Scalar,
    }

    /// `host` of a probe is left out on purpose: the node itself would send the request there.
    PROBE {
        exec: Object(&EXEC),
        httpGet: Object(&HTTP_GET),
        tcpSocket: Object(&TCP_SOCKET),
        grpc: Object(&GRPC),
        initialDelaySeconds: Scalar,
        timeoutSeconds: Scalar,
        periodSeconds: Scalar,
        successThreshold: Scalar,
        failureThreshold: Scalar,
        terminationGracePeriodSeconds: Scalar,
    }

    EXEC { command: List(&Scalar) }
    HTTP_GET { path: Scalar, port: Scalar, scheme: Scalar, httpHeaders: List(&Object(&HTTP_HEADER)) }
    HTTP_HEADER { name: Scalar, value: Scalar }
    TCP_SOCKET { port: Scalar }
    GRPC { port: Scalar, service: Scalar }
    SLEEP { seconds: Scalar }

    LIFECYCLE {
        postStart: Object(&LIFECYCLE_ACTION),
        preStop: Object(&LIFECYCLE_ACTION),
        stopSignal: Scalar,
    }

    LIFECYCLE_ACTION {
        exec: Object(&EXEC),
        httpGet: Object(&HTTP_GET),
        tcpSocket: Object(&TCP_SOCKET),
        sleep: Object(&SLEEP),
    }

    RESOURCES {
        limits: Map(&Scalar),
        requests: Map(&Scalar),
    }

    ENV_FROM {
        prefix: Scalar,
        configMapRef: Object(&CONFIG_MAP_REF),
        secretRef: Object(&SECRET_REF),
    }

    ENV {
        name: Scalar,
        value: Scalar,
        valueFrom: Object(&ENV_SOURCE),
    }

    ENV_SOURCE {
        fieldRef: Object(&FIELD_REF),
        resourceFieldRef: Object(&RESOURCE_FIELD_REF),
        configMapKeyRef: Object(&CONFIG_MAP_KEY),
        secretKeyRef: Object(&SECRET_KEY),
        fileKeyRef: Object(&FILE_KEY),
    }

    FIELD_REF { apiVersion: Scalar, fieldPath: Scalar }
    RESOURCE_FIELD_REF { containerName: Scalar, resource: Scalar, divisor: Scalar }
    FILE_KEY { volumeName: Scalar, path: Scalar, key: Scalar, optional: Scalar }
    CONFIG_MAP_REF { name @ ConfigMap: Scalar, optional: Scalar }
    CONFIG_MAP_KEY { name @ ConfigMap: Scalar, key: Scalar, optional: Scalar }
    SECRET_REF { name @ Secret: Scalar, optional: Scalar }
    SECRET_KEY { name @ Secret: Scalar, key: Scalar, optional: Scalar }

    VOLUME_MOUNT {
        name: Scalar,
        readOnly: Scalar,
        recursiveReadOnly: Scalar,
        mountPath: Scalar,
        subPath: Scalar,
        subPathExpr: Scalar,
        mountPropagation @ HostAccess: Scalar,
    }

    VOLUME_DEVICE { name: Scalar, devicePath: Scalar }

    WORKSPACE_BINDING {
        name: Scalar,
        subPath: Scalar,
        volumeClaimTemplate: Object(&CLAIM_TEMPLATE),
        persistentVolumeClaim: Object(&CLAIM),
        emptyDir: Object(&EMPTY_DIR),
        configMap: Object(&CONFIG_MAP_VOLUME),
        secret: Object(&SECRET_VOLUME),
        projected: Object(&PROJECTED),
        csi: Object(&CSI),
    }

    VOLUME {
        name: Scalar,
        hostPath @ HostPath: Object(&HOST_PATH),
        emptyDir: Object(&EMPTY_DIR),
        secret: Object(&SECRET_VOLUME),
        persistentVolumeClaim: Object(&CLAIM),
        downwardAPI: Object(&DOWNWARD_API),
        configMap: Object(&CONFIG_MAP_VOLUME),
        projected: Object(&PROJECTED),
        csi: Object(&CSI),
        ephemeral: Object(&EPHEMERAL),
        image: Object(&IMAGE_VOLUME),
    }

    HOST_PATH { path: Scalar, type: Scalar }
    EMPTY_DIR { medium: Scalar, sizeLimit: Scalar }
    CLAIM { claimName @ Claim: Scalar, readOnly: Scalar }
    IMAGE_VOLUME { reference @ Image: Scalar, pullPolicy: Scalar }
    EPHEMERAL { volumeClaimTemplate: Object(&CLAIM_TEMPLATE) }

    CLAIM_TEMPLATE {
        apiVersion: Scalar,
        kind: Scalar,
        metadata: Object(&CLAIM_METADATA),
        spec: Object(&CLAIM_SPEC),
    }

    CLAIM_METADATA {
        name: Scalar,
        labels @ Labels: Map(&Scalar),
        annotations @ Annotations: Map(&Scalar),
    }

    /// `volumeName`, `selector`, `dataSource` and `dataSourceRef` are left out on purpose: each reaches data of somebody else.
    CLAIM_SPEC {
        accessModes: List(&Scalar),
        resources: Object(&RESOURCES),
        storageClassName: Scalar,
        volumeMode: Scalar,
        volumeAttributesClassName: Scalar,
    }

    KEY_TO_PATH { key: Scalar, path: Scalar, mode: Scalar }

    SECRET_VOLUME {
        secretName @ Secret: Scalar,
        items: List(&Object(&KEY_TO_PATH)),
        defaultMode: Scalar,
        optional: Scalar,
    }

    CONFIG_MAP_VOLUME {
        name @ ConfigMap: Scalar,
        items: List(&Object(&KEY_TO_PATH)),
        defaultMode: Scalar,
        optional: Scalar,
    }

    DOWNWARD_API {
        items: List(&Object(&DOWNWARD_FILE)),
        defaultMode: Scalar,
    }

    DOWNWARD_FILE {
        path: Scalar,
        fieldRef: Object(&FIELD_REF),
        resourceFieldRef: Object(&RESOURCE_FIELD_REF),
        mode: Scalar,
    }

    PROJECTED {
        sources: List(&Object(&PROJECTION)),
        defaultMode: Scalar,
    }

    PROJECTION {
        secret: Object(&PROJECTED_SECRET),
        downwardAPI: Object(&DOWNWARD_API),
        configMap: Object(&CONFIG_MAP_VOLUME),
        serviceAccountToken @ Token: Object(&TOKEN),
    }

    PROJECTED_SECRET { name @ Secret: Scalar, items: List(&Object(&KEY_TO_PATH)), optional: Scalar }
    TOKEN { audience: Scalar, expirationSeconds: Scalar, path: Scalar }

    CSI {
        driver @ Driver: Scalar,
        readOnly: Scalar,
        fsType: Scalar,
        volumeAttributes: Map(&Scalar),
        nodePublishSecretRef: Object(&LOCAL_SECRET),
    }

    LOCAL_SECRET { name @ Secret: Scalar }

    SECURITY_CONTEXT {
        capabilities: Object(&CAPABILITIES),
        privileged: Scalar,
        seLinuxOptions: Object(&SE_LINUX),
        runAsUser: Scalar,
        runAsGroup: Scalar,
        runAsNonRoot: Scalar,
        readOnlyRootFilesystem: Scalar,
        allowPrivilegeEscalation: Scalar,
        procMount: Scalar,
        seccompProfile: Object(&PROFILE),
        appArmorProfile: Object(&PROFILE),
    }

    CAPABILITIES { add: List(&Scalar), drop: List(&Scalar) }
    SE_LINUX { user: Scalar, role: Scalar, type: Scalar, level: Scalar }
    PROFILE { type: Scalar, localhostProfile: Scalar }

    POD_TEMPLATE {
        nodeSelector: Map(&Scalar),
        env: List(&Object(&ENV)),
        tolerations: List(&Object(&TOLERATION)),
        affinity: Object(&AFFINITY),
        securityContext @ Security: Object(&POD_SECURITY_CONTEXT),
        volumes: List(&Object(&VOLUME)),
        runtimeClassName: Scalar,
        automountServiceAccountToken: Scalar,
        dnsPolicy: Scalar,
        dnsConfig: Object(&DNS_CONFIG),
        enableServiceLinks: Scalar,
        priorityClassName: Scalar,
        schedulerName: Scalar,
        imagePullSecrets: List(&Object(&LOCAL_SECRET)),
        hostAliases: List(&Object(&HOST_ALIAS)),
        hostNetwork @ HostAccess: Scalar,
        hostUsers @ HostAccess: Scalar,
        topologySpreadConstraints: List(&Object(&TOPOLOGY_SPREAD)),
    }

    POD_SECURITY_CONTEXT {
        seLinuxOptions: Object(&SE_LINUX),
        runAsUser: Scalar,
        runAsGroup: Scalar,
        runAsNonRoot: Scalar,
        supplementalGroups: List(&Scalar),
        supplementalGroupsPolicy: Scalar,
        fsGroup: Scalar,
        fsGroupChangePolicy: Scalar,
        seccompProfile: Object(&PROFILE),
        appArmorProfile: Object(&PROFILE),
        seLinuxChangePolicy: Scalar,
        sysctls: List(&Object(&NAME_AND_VALUE)),
    }

    NAME_AND_VALUE { name: Scalar, value: Scalar }
    TOLERATION { key: Scalar, operator: Scalar, value: Scalar, effect: Scalar, tolerationSeconds: Scalar }
    DNS_CONFIG { nameservers: List(&Scalar), searches: List(&Scalar), options: List(&Object(&NAME_AND_VALUE)) }
    HOST_ALIAS { ip: Scalar, hostnames: List(&Scalar) }

    TOPOLOGY_SPREAD {
        maxSkew: Scalar,
        topologyKey: Scalar,
        whenUnsatisfiable: Scalar,
        labelSelector: Object(&LABEL_SELECTOR),
        minDomains: Scalar,
        nodeAffinityPolicy: Scalar,
        nodeTaintsPolicy: Scalar,
        matchLabelKeys: List(&Scalar),
    }

    LABEL_SELECTOR {
        matchLabels: Map(&Scalar),
        matchExpressions: List(&Object(&REQUIREMENT)),
    }

    REQUIREMENT { key: Scalar, operator: Scalar, values: List(&Scalar) }

    AFFINITY {
        nodeAffinity: Object(&NODE_AFFINITY),
        podAffinity: Object(&POD_AFFINITY),
        podAntiAffinity: Object(&POD_AFFINITY),
    }

    NODE_AFFINITY {
        requiredDuringSchedulingIgnoredDuringExecution: Object(&NODE_SELECTOR),
        preferredDuringSchedulingIgnoredDuringExecution: List(&Object(&PREFERRED_NODE)),
    }

    NODE_SELECTOR { nodeSelectorTerms: List(&Object(&NODE_SELECTOR_TERM)) }
    PREFERRED_NODE { weight: Scalar, preference: Object(&NODE_SELECTOR_TERM) }

    NODE_SELECTOR_TERM {
        matchExpressions: List(&Object(&REQUIREMENT)),
        matchFields: List(&Object(&REQUIREMENT)),
    }

    POD_AFFINITY {
        requiredDuringSchedulingIgnoredDuringExecution: List(&Object(&POD_AFFINITY_TERM)),
        preferredDuringSchedulingIgnoredDuringExecution: List(&Object(&PREFERRED_POD)),
    }

    PREFERRED_POD { weight: Scalar, podAffinityTerm: Object(&POD_AFFINITY_TERM) }

    POD_AFFINITY_TERM {
        labelSelector: Object(&LABEL_SELECTOR),
        topologyKey: Scalar,
        namespaces: List(&Scalar),
        namespaceSelector: Object(&LABEL_SELECTOR),
        matchLabelKeys: List(&Scalar),
        mismatchLabelKeys: List(&Scalar),
    }
}

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
