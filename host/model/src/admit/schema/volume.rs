//! Kubernetes' objects of storage: what a volume or a workspace may be made of.

use super::Shape::{List, Map, Object, Scalar};
use super::container::{FIELD_REF, RESOURCE_FIELD_REF, RESOURCES};

objects! {
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
}
