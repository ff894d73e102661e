//! `fetch.get`: public text from granted hosts.
//!
//! The grant names the host; here it is made sure that the name does not lead inside: an address that is not public is never connected to, whatever
//! DNS says, and redirects are not followed. No credential, cookie or proxy is used.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use penstock_model::id::Digest;
use penstock_model::lookup::{Answer, Content, HostFault, LookupError};
use penstock_sandbox::Asked;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

const PATIENCE: Duration = Duration::from_secs(10);

static CLIENT: LazyLock<Result<reqwest::Client, reqwest::Error>> =
    LazyLock::new(|| client(is_public).build());

/// A client that goes nowhere by itself, and to no address that is not let through.
fn client(through: fn(IpAddr) -> bool) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .dns_resolver(Arc::new(Only(through)))
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE)
}

/// Gets a URL whose host was granted.
pub(super) async fn get(url: &str, largest: u64) -> Asked {
    let client = CLIENT.as_ref().map_err(|error| fault(url, error))?;
    get_by(client, is_public, url, largest).await
}

async fn get_by(
    client: &reqwest::Client,
    through: fn(IpAddr) -> bool,
    url: &str,
    largest: u64,
) -> Asked {
    let invalid = |why: &str| Ok(Err(LookupError::Invalid(format!("{url}: {why}"))));
    let Ok(parsed) = reqwest::Url::parse(url) else {
        return invalid("it is no address");
    };
    // A literal address never meets the resolver.
    let literal = parsed
        .host_str()
        .map(|host| host.trim_matches(['[', ']']))
        .and_then(|host| host.parse().ok());
    if literal.is_some_and(|ip| !through(ip)) {
        return denied(url);
    }
    let response = match client.get(parsed).send().await {
        Ok(response) => response,
        Err(error) if is_inside(&error) => return denied(url),
        Err(error) => return Err(fault(url, &error)),
    };
    let status = response.status();
    if status.is_redirection() {
        return Ok(Err(LookupError::Denied(format!(
            "{url} redirects, and redirects are not followed"
        ))));
    }
    if status == reqwest::StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        return Err(HostFault {
            what: format!("{url} answered {status}"),
            retry_after: None,
        });
    }
    if !status.is_success() {
        return Ok(Err(LookupError::NotFound));
    }
    read(url, response, largest).await
}

async fn read(url: &str, mut response: reqwest::Response, largest: u64) -> Asked {
    if let Some(length) = response.content_length().filter(|length| *length > largest) {
        return Ok(Err(LookupError::TooLarge(length)));
    }
    let mut content = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| fault(url, &error))? {
        content.extend_from_slice(&chunk);
        let length = content.len() as u64;
        if length > largest {
            return Ok(Err(LookupError::TooLarge(length)));
        }
    }
    let digest = Digest::of(&content);
    Ok(Ok(Answer::Fetched {
        content: Content(content),
        digest,
    }))
}

fn denied(url: &str) -> Asked {
    Ok(Err(LookupError::Denied(format!(
        "{url} does not lead to a public address"
    ))))
}

fn fault(url: &str, error: &reqwest::Error) -> HostFault {
    let cause = std::error::Error::source(error)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    HostFault {
        what: format!("{url} could not be fetched{cause}"),
        retry_after: None,
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the name does not lead to a public address")]
struct Inside;

fn is_inside(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<Inside>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Resolves names, and forgets addresses that are not let through.
struct Only(fn(IpAddr) -> bool);

impl Resolve for Only {
    fn resolve(&self, name: Name) -> Resolving {
        let through = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| through(address.ip())).collect();
            if public.is_empty() {
                return Err(Inside.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Addresses that the internet routes: RFC 6890 lists those that it does not.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let protocol = a == 192 && b == 0 && c == 0;
            let benchmark = a == 198 && (18..20).contains(&b);
            !(ip.is_unspecified()
                || a == 0
                || ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_broadcast()
                || ip.is_documentation()
                || ip.is_multicast()
                || shared
                || protocol
                || benchmark
                || a >= 240)
        }
        IpAddr::V6(ip) => {
            let embedded = ip.to_ipv4_mapped().or_else(|| nat64(ip)).map(IpAddr::V4);
            if let Some(inner) = embedded {
                return is_public(inner);
            }
            // Only global unicast, without what is set apart for documentation, Teredo and 6to4.
            let [first, second, ..] = ip.segments();
            first & 0xe000 == 0x2000
                && !(first == 0x2001 && (second == 0x0db8 || second < 0x0200))
                && first != 0x2002
                && first != 0x3fff
        }
    }
}

fn nat64(ip: std::net::Ipv6Addr) -> Option<std::net::Ipv4Addr> {
    let [0x0064, 0xff9b, 0, 0, 0, 0, high, low] = ip.segments() else {
        return None;
    };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(std::net::Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn addresses_inside_are_not_public() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2001:db8::1",
            "2002:7f00:1::",
            "ff02::1",
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        for public in [
            "1.1.1.1",
            "93.184.216.34",
            "2606:4700:4700::1111",
            "::ffff:1.1.1.1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[tokio::test]
    async fn a_url_that_leads_inside_is_denied_before_it_is_connected_to() {
        for url in [
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://169.254.169.254/latest",
            "https://localhost/",
        ] {
            let answer = get(url, 1024).await;
            assert!(
                matches!(answer, Ok(Err(LookupError::Denied(_)))),
                "{url}: {answer:?}"
            );
        }
    }

    /// A server of a public host, as far as the client knows, that sends whoever asks to the metadata service. Answers its port and certificate.
    async fn redirects() -> (u16, Vec<u8>) {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = key.cert.der().clone();
        let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], private.into())
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = acceptor.accept(stream).await.unwrap();
                let mut head = [0; 1024];
                let read = stream.read(&mut head).await.unwrap();
                assert!(read > 0);
                let answer = "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/meta-data/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        (port, certificate.to_vec())
    }

    #[tokio::test]
    async fn a_public_host_that_redirects_inside_is_not_followed() {
        let (port, certificate) = redirects().await;
        let client = client(|_| true)
            .add_root_certificate(reqwest::Certificate::from_der(&certificate).unwrap())
            .build()
            .unwrap();
        let url = format!("https://localhost:{port}/task.yaml");
        let answer = get_by(&client, |_| true, &url, 1024).await;
        let Ok(Err(LookupError::Denied(why))) = answer else {
            panic!("{answer:?}");
        };
        assert!(why.contains("redirects"), "{why}");
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_never_connected_to_even_where_somebody_listens() {
        let (port, certificate) = redirects().await;
        let client = client(is_public)
            .add_root_certificate(reqwest::Certificate::from_der(&certificate).unwrap())
            .build()
            .unwrap();
        let url = format!("https://localhost:{port}/task.yaml");
        let answer = get_by(&client, is_public, &url, 1024).await;
        let Ok(Err(LookupError::Denied(why))) = answer else {
            panic!("{answer:?}");
        };
        assert!(why.contains("public address"), "{why}");
    }
}
