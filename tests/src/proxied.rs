//! Scenes whose host reaches GitLab or its cluster through a [`Proxy`] that can break and hold what passes.

use std::path::PathBuf;

use penstock_control_plane::Access;
use penstock_doubles::proxy::Proxy;

use crate::scene::Builder;

/// A proxy before a cluster, and a scene whose host goes through it.
pub async fn cluster(builder: Builder, access: &Access) -> (Builder, Proxy) {
    let proxy = Proxy::start(Some(access.ca_pem())).await;
    proxy.lead_to(access.server_url());
    let (before, after) = (access.server_url().to_owned(), proxy.url());
    let builder = builder.edit(move |config| {
        let kubeconfig = config["clusters"][0]["kubeconfig"].as_str();
        let kubeconfig = PathBuf::from(kubeconfig.expect("a kubeconfig"));
        let text = std::fs::read_to_string(&kubeconfig).expect("a kubeconfig");
        std::fs::write(&kubeconfig, text.replace(&before, &after)).expect("a kubeconfig");
    });
    (builder, proxy)
}

/// A proxy before GitLab, and a scene whose host goes through it. GitLab's webhooks come straight.
pub async fn gitlab(builder: Builder) -> (Builder, Proxy) {
    let proxy = Proxy::start(None).await;
    let handle = proxy.clone();
    let builder = builder.edit(move |config| {
        let url = config["gitlab"][0]["url"].as_str().expect("an address");
        handle.lead_to(url);
        config["gitlab"][0]["url"] = handle.url().into();
    });
    (builder, proxy)
}
