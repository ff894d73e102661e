//! TLS with a private authority: towards GitLab by `ca`, towards Postgres by the system's trusted certificates.

use std::sync::Arc;

use penstock_doubles::gitlab::Push;
use penstock_tests::manifest::short_lived;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Postgres, Scene};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A private authority, and a certificate of it for loopback.
struct Authority {
    ca: String,
    certificate: rcgen::Certificate,
    key: KeyPair,
}

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Authority {
        ca,
        certificate,
        key,
    }
}

/// Ends TLS in front of an address; gives its own.
async fn in_front_of(to: String, authority: &Authority) -> String {
    let chain: Vec<CertificateDer<'static>> = vec![authority.certificate.der().clone()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(authority.key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                if let Ok(mut inside) = acceptor.accept(stream).await
                    && let Ok(mut outside) = TcpStream::connect(&to).await
                {
                    // It ends when either side does.
                    let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
                }
            });
        }
    });
    address
}

fn push() -> Push {
    Push::new(PROJECT, "topic", "alice").write("a.txt", "a")
}

#[tokio::test]
async fn a_gitlab_behind_a_private_authority_is_trusted_by_its_ca_alone() {
    let authority = authority();
    let mut scene = Scene::builder("tls-gitlab")
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .prepare()
        .await;
    let plain = scene.gitlab.url().trim_start_matches("http://").to_owned();
    let address = in_front_of(plain, &authority).await;
    let ca = scene.folder().join("secrets/ca.pem");
    std::fs::write(&ca, &authority.ca).unwrap();

    scene.reconfigure(|config| config["gitlab"][0]["url"] = address.into());
    let told = scene
        .penstock
        .text_command(&["check", "--output", "json"])
        .await;
    assert!(!told.success);
    let found: Vec<Value> = serde_json::from_str(&told.out).unwrap();
    let gitlab = found
        .iter()
        .find(|it| it["what"] == "GitLab `main`")
        .unwrap();
    assert_eq!(gitlab["verdict"], "bad");
    assert!(
        gitlab["detail"].as_str().unwrap().contains("certificate"),
        "{gitlab:#}"
    );
    assert!(
        gitlab["remedy"].as_str().unwrap().contains("`ca`"),
        "{gitlab:#}"
    );
    assert_eq!(
        scene.gitlab.calls().len(),
        0,
        "the token was sent to nobody"
    );

    scene.reconfigure(|config| config["gitlab"][0]["ca"] = json!(ca));
    scene.penstock.restart().await;
    let change = scene.gitlab.push(push());
    let delivery = scene.send_one(&change).await;
    scene.run_of(&delivery).await;
    scene.settled().await;
}

#[tokio::test]
async fn a_store_in_postgres_is_reached_over_tls_and_an_unknown_authority_is_refused() {
    let authority = authority();
    let mut server = Postgres::start().await;
    server
        .encrypt(&authority.certificate.pem(), &authority.key.serialize_pem())
        .await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.ca).unwrap();
    let scene = Scene::builder("tls-postgres")
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .postgres(&server)
        .environment("SSL_CERT_FILE", ca.to_str().unwrap())
        .start()
        .await;
    let change = scene.gitlab.push(push());
    let delivery = scene.send_one(&change).await;
    scene.run_of(&delivery).await;

    // A command is started without the variable: it does not know the authority.
    let told = scene.penstock.text_command(&["deliveries", "list"]).await;
    assert!(!told.success, "{}", told.out);
    assert!(
        told.err.contains("the store can't be opened"),
        "{}",
        told.err
    );
    assert!(!told.err.contains(server.password()), "{}", told.err);
}
