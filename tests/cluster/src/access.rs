//! How to reach a control plane as its administrator, or as anyone with a token.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

/// The audit log's name beside the kubeconfig.
pub(crate) const AUDIT_LOG: &str = "audit.log";

/// Address, authority and administrator's token of a control plane.
#[derive(Clone)]
pub struct Access {
    server_url: String,
    ca_pem: String,
    token: String,
    kubeconfig: PathBuf,
}

impl Access {
    /// Writes the administrator's kubeconfig to `path`.
    pub(crate) fn create(
        server_url: String,
        ca_pem: String,
        token: String,
        path: &Path,
    ) -> Result<Self> {
        let access = Self {
            server_url,
            ca_pem,
            token,
            kubeconfig: path.to_owned(),
        };
        crate::pki::write_secret(path, &access.kubeconfig())?;
        Ok(access)
    }

    /// Reads the kubeconfig of a control plane that another process started.
    ///
    /// # Errors
    /// If the file can't be read, or its current context names no server, authority or token.
    pub fn from_kubeconfig(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("can't read the kubeconfig {}", path.display()))?;
        let value: serde_json::Value =
            serde_saphyr::from_str(&text).context("the kubeconfig is not YAML")?;
        let text_at = |pointer: &str| {
            value
                .pointer(pointer)
                .and_then(|found| found.as_str())
                .map(String::from)
                .with_context(|| format!("the kubeconfig {} has no {pointer}", path.display()))
        };
        let ca = text_at("/clusters/0/cluster/certificate-authority-data")?;
        Ok(Self {
            server_url: text_at("/clusters/0/cluster/server")?,
            ca_pem: decode_base64(&ca).context("the kubeconfig's authority is not base64")?,
            token: text_at("/users/0/user/token")?,
            kubeconfig: path.to_owned(),
        })
    }

    /// The API server's address, `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn server_url(&self) -> &str {
        &self.server_url
    }

    /// The cluster's authority, as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The administrator's kubeconfig as text: a secret.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig_for(&self.token)
    }

    /// Where the administrator's kubeconfig lies.
    #[must_use]
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// The API server's audit log (one JSON event in each line), if it keeps one.
    #[must_use]
    pub fn audit_log(&self) -> Option<PathBuf> {
        let path = self.kubeconfig.with_file_name(AUDIT_LOG);
        path.exists().then_some(path)
    }

    /// A kubeconfig for whoever holds `token`: a secret.
    #[must_use]
    pub fn kubeconfig_for(&self, token: &str) -> String {
        use base64::Engine as _;
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.ca_pem);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "test", "cluster": { "server": self.server_url, "certificate-authority-data": ca } }],
            "users": [{ "name": "user", "user": { "token": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "user" } }],
            "current-context": "test",
        });
        // JSON is YAML, and every reader of kubeconfig files takes it.
        format!("{config:#}\n")
    }

    /// A client with the administrator's rights. It belongs to the runtime that asks for it.
    ///
    /// # Errors
    /// If the client can't be built.
    pub async fn client(&self) -> Result<Client> {
        self.client_with_token(&self.token).await
    }

    /// A client with the rights of whoever holds `token`.
    ///
    /// # Errors
    /// If the client can't be built.
    pub async fn client_with_token(&self, token: &str) -> Result<Client> {
        let config = Kubeconfig::from_yaml(&self.kubeconfig_for(token))
            .context("our kubeconfig can't be read")?;
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
            .await
            .context("our kubeconfig makes no configuration")?;
        Client::try_from(config).context("no client can be made for the control plane")
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("server_url", &self.server_url)
            .field("token", &"[redacted]")
            .field("kubeconfig", &self.kubeconfig)
            .finish_non_exhaustive()
    }
}

/// Decodes base64 that holds UTF-8.
pub(crate) fn decode_base64(text: &str) -> Result<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text)?;
    Ok(String::from_utf8(bytes)?)
}
