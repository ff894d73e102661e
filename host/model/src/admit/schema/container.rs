//! Kubernetes' objects within a container: its variables, mounts, ports, probes, resources and security context.

use super::Shape::{List, Map, Object, Scalar};

objects! {
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
}
