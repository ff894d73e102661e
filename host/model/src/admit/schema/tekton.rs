//! Tekton's objects: a PipelineRun with its pipelines, tasks and steps, as far down as Kubernetes' own begin.

use super::Shape::{List, Map, Object, Scalar, Value};
use super::container::{
    ENV, ENV_FROM, LIFECYCLE, PORT, PROBE, RESOURCES, SECURITY_CONTEXT, VOLUME_DEVICE, VOLUME_MOUNT,
};
use super::pod::POD_TEMPLATE;
use super::volume::{
    CLAIM, CLAIM_TEMPLATE, CONFIG_MAP_VOLUME, CSI, EMPTY_DIR, PROJECTED, SECRET_VOLUME, VOLUME,
};

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
}
