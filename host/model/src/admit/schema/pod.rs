//! Tekton's pod template, with Kubernetes' objects of placement, names and security in it.

use super::Shape::{List, Map, Object, Scalar};
use super::container::{ENV, PROFILE, SE_LINUX};
use super::volume::{LOCAL_SECRET, VOLUME};

objects! {
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
