//! Credentials with which runs clone: made before a run, shared by the runs of a project, taken away when they end.
//!
//! The journal in the store goes ahead of everything: a row before GitLab is asked for a token, its sealed value before a cluster gets it. So whoever comes
//! after a crash finds what may be there, uses it or takes it away. It is a token of the project alone that reads the repository, never the host's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use penstock_cluster::{SecretAt, SecretError};
use penstock_gitlab::ApiError;
use penstock_model::admit::{CloneSecret, RunOrder};
use penstock_model::id::{EffectId, InstanceName, ProjectId, ProjectPath, Timestamp};
use penstock_model::secret::Secret;
use penstock_store::{CloneAnswer, CloneToken, IdleSecret, IdleToken, SecretFor, StoreError};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::backoff;
use crate::host::Host;
use crate::live::{Instance, Live};

/// A token ends by itself after this long, should nobody come to revoke it. No run may take longer.
const LIVES: Duration = Duration::from_secs(24 * 60 * 60);
/// When a token is looked for again that another worker is about to make.
const BUSY: Duration = Duration::from_millis(300);
/// How often is looked for what is to be taken away.
const ROUND: Duration = Duration::from_secs(1);
/// What is taken away in one round.
const MOST: u32 = 32;

/// Why a run has no credentials yet.
#[derive(Debug)]
pub(crate) enum NotYet {
    /// It may have them later.
    Again {
        why: String,
        after: Option<Duration>,
    },
    /// It won't.
    Never(String),
}

impl NotYet {
    fn later(why: impl Into<String>) -> Self {
        Self::Again {
            why: why.into(),
            after: None,
        }
    }
}

impl From<StoreError> for NotYet {
    fn from(error: StoreError) -> Self {
        Self::later(error.to_string())
    }
}

/// What opens one project.
struct Access {
    path: ProjectPath,
    username: String,
    value: Secret,
}

/// Makes the Secrets of a run. Safe to repeat.
pub(crate) async fn prepare(
    host: &Host,
    live: &Live,
    order: &RunOrder,
    id: EffectId,
) -> Result<(), NotYet> {
    for wanted in &order.secrets {
        let instance = live.instance(&order.of.instance).ok_or_else(|| {
            NotYet::Never(format!(
                "the configuration has no GitLab instance `{}` any more",
                order.of.instance
            ))
        })?;
        let cluster = live.cluster(&order.cluster).ok_or_else(|| {
            NotYet::Never(format!(
                "the configuration has no cluster `{}` any more",
                order.cluster
            ))
        })?;
        let secret = SecretFor {
            run: id,
            name: wanted.name.clone(),
            cluster: order.cluster.clone(),
            namespace: order.namespace.clone(),
            creator: order.creator.clone(),
        };
        let mut all = Vec::new();
        for (project, path) in projects(instance, order, wanted).await? {
            all.push(access(host, live, instance, &secret, project, path).await?);
        }
        let values = contents(instance.client.base_url(), &all);
        cluster
            .make_secret(at(&secret), &values)
            .await
            .map_err(of_cluster)?;
    }
    Ok(())
}

/// The run's own project first: of a merge request from a fork the target, whose `refs/merge-requests/N/head` holds the fork's commits.
async fn projects(
    instance: &Instance,
    order: &RunOrder,
    wanted: &CloneSecret,
) -> Result<Vec<(ProjectId, ProjectPath)>, NotYet> {
    let mut all = vec![(order.of.project, order.of.path.clone())];
    for path in &wanted.others {
        let id = instance
            .client
            .project_at(path)
            .await
            .map_err(|error| of_gitlab(&error, path))?;
        all.push((id, path.clone()));
    }
    Ok(all)
}

/// The project's token that takes runs, or a new one.
async fn access(
    host: &Host,
    live: &Live,
    instance: &Instance,
    secret: &SecretFor,
    project: ProjectId,
    path: ProjectPath,
) -> Result<Access, NotYet> {
    let named = &instance.config().name;
    let fresh = format!("penstock-{}", uuid::Uuid::new_v4().simple());
    let begun = host
        .store
        .clone_begin(named, project, secret, &fresh, Timestamp::now())
        .await?;
    match begun {
        CloneAnswer::Busy => Err(NotYet::Again {
            why: "another run of the project is about to get credentials".to_owned(),
            after: Some(BUSY),
        }),
        CloneAnswer::Ready(token) => {
            let about = about(named, project, &token.name);
            match live.keys.open(&about, &token.sealed) {
                Ok(value) => Ok(Access {
                    path,
                    username: token.username,
                    value: Secret::new(String::from_utf8_lossy(&value).into_owned()),
                }),
                Err(error) => {
                    host.store.clone_lost(token.seq, &error.to_string()).await?;
                    Err(NotYet::later(format!(
                        "the credentials of the project can't be opened: {error}"
                    )))
                }
            }
        }
        CloneAnswer::Make { seq, name, begun } => {
            let making = Making {
                host,
                live,
                instance,
                project,
                path: &path,
            };
            match making.make(seq, &name, begun).await {
                Ok(access) => Ok(access),
                Err(why) => {
                    // Others need not wait for the lease to end.
                    let said = format!("{why:?}");
                    host.store
                        .clone_put_off(seq, Timestamp::now(), &said)
                        .await?;
                    Err(why)
                }
            }
        }
    }
}

/// A token on its way.
struct Making<'a> {
    host: &'a Host,
    live: &'a Live,
    instance: &'a Instance,
    project: ProjectId,
    path: &'a ProjectPath,
}

impl Making<'_> {
    async fn make(&self, seq: u64, name: &str, begun: bool) -> Result<Access, NotYet> {
        if self.live.keys.is_empty() {
            return Err(NotYet::Never(
                "the host has no `sealing-key`, and keeps no credentials in clear: set one in the configuration".to_owned(),
            ));
        }
        let client = &self.instance.client;
        let failed = |error: ApiError| of_gitlab(&error, self.path);
        if begun {
            // The answer to an earlier try was lost, and the token's value with it.
            for token in client
                .deploy_tokens_named(self.project, name)
                .await
                .map_err(failed)?
            {
                client
                    .revoke_deploy_token(self.project, token)
                    .await
                    .map_err(failed)?;
            }
        }
        let expires_at = Timestamp::now().plus(LIVES);
        let made = client
            .make_deploy_token(self.project, name, expires_at)
            .await
            .map_err(failed)?;
        let named = &self.instance.config().name;
        let sealed = self
            .live
            .keys
            .seal(
                &about(named, self.project, name),
                made.value.reveal().as_bytes(),
            )
            .map_err(|error| NotYet::Never(error.to_string()))?;
        let token = CloneToken {
            seq,
            name: name.to_owned(),
            username: made.username.clone(),
            sealed,
        };
        self.host
            .store
            .clone_made(token, made.id, expires_at)
            .await?;
        tracing::info!(project = %self.path, token = made.id, "made a deploy token for runs of a project");
        Ok(Access {
            path: self.path.clone(),
            username: made.username,
            value: made.value,
        })
    }
}

/// What a token's sealed value is about.
pub(crate) fn about(instance: &InstanceName, project: ProjectId, name: &str) -> String {
    format!("clone/{instance}/{project}/{name}")
}

fn of_gitlab(error: &ApiError, path: &ProjectPath) -> NotYet {
    match error {
        ApiError::Forbidden(_) | ApiError::NotFound(_) => NotYet::Never(format!(
            "no credentials to clone `{path}`: {error}; give Penstock's user the Maintainer role there, which deploy tokens take"
        )),
        ApiError::Refused { .. } => {
            NotYet::Never(format!("no credentials to clone `{path}`: {error}"))
        }
        _ => NotYet::Again {
            why: error.to_string(),
            after: error.retry_after(),
        },
    }
}

fn of_cluster(error: SecretError) -> NotYet {
    if error.is_transient() {
        NotYet::Again {
            after: error.retry_after(),
            why: error.to_string(),
        }
    } else {
        NotYet::Never(error.to_string())
    }
}

fn at(secret: &SecretFor) -> SecretAt<'_> {
    SecretAt {
        namespace: &secret.namespace,
        creator: &secret.creator,
        name: &secret.name,
        effect: secret.run,
    }
}

/// The three keys of Pipelines-as-Code. Where several projects are opened, git is told to look at their paths.
fn contents(base: &str, all: &[Access]) -> BTreeMap<&'static str, Secret> {
    let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
    let host = rest.split('/').next().unwrap_or(rest);
    let several = all.len() > 1;
    let mut config = format!("[credential \"{scheme}://{host}\"]\n\thelper = store\n");
    if several {
        config.push_str("\tuseHttpPath = true\n");
    }
    let mut lines = Zeroizing::new(String::new());
    for access in all {
        let user = escaped(&access.username);
        let value = Zeroizing::new(escaped(access.value.reveal()));
        // Git asks with or without the ending, as the address was written.
        for end in ["", ".git"] {
            let path = &access.path;
            lines.push_str(&format!(
                "{scheme}://{user}:{}@{rest}/{path}{end}\n",
                *value
            ));
        }
    }
    let mut values = BTreeMap::from([
        (".gitconfig", Secret::new(config)),
        (".git-credentials", Secret::new(lines.to_string())),
    ]);
    if let Some(own) = all.first() {
        values.insert("git-provider-token", own.value.clone());
    }
    values
}

/// A text as the user or password of an address.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Takes away what no run needs any more, until `stop`.
pub(crate) async fn sweep(host: Arc<Host>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match round(&host).await {
            Ok(true) => {}
            Ok(false) => {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(ROUND) => {}
                }
            }
            Err(error) => {
                tracing::warn!(%error, "credentials of runs could not be looked through");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(ROUND * 5) => {}
                }
            }
        }
    }
}

/// Whether there may be more to do at once.
async fn round(host: &Host) -> Result<bool, StoreError> {
    let live = host.live();
    let secrets = host
        .store
        .clone_idle_secrets(Timestamp::now(), MOST)
        .await?;
    let tokens = host.store.clone_idle_tokens(Timestamp::now(), MOST).await?;
    let full = secrets.len().max(tokens.len()) >= usize::try_from(MOST).unwrap_or(usize::MAX);
    let deleted =
        futures_util::future::join_all(secrets.iter().map(|idle| delete(host, &live, idle)));
    let revoked =
        futures_util::future::join_all(tokens.iter().map(|idle| revoke(host, &live, idle)));
    let (deleted, revoked) = tokio::join!(deleted, revoked);
    deleted
        .into_iter()
        .chain(revoked)
        .collect::<Result<(), StoreError>>()?;
    Ok(full)
}

async fn delete(host: &Host, live: &Live, idle: &IdleSecret) -> Result<(), StoreError> {
    let secret = &idle.secret;
    let why = match live.cluster(&secret.cluster) {
        None => format!(
            "the configuration has no cluster `{}` any more",
            secret.cluster
        ),
        Some(cluster) => match cluster.delete_secret(at(secret)).await {
            // A namespace that is gone took the Secret along.
            Ok(()) | Err(SecretError::NoPlace { .. }) => {
                return host.store.clone_secret_gone(secret).await;
            }
            Err(error) => error.to_string(),
        },
    };
    tracing::warn!(
        why,
        secret = secret.name,
        namespace = secret.namespace,
        "the Secret of a run could not be deleted"
    );
    let next = Timestamp::now().plus(backoff::wait(idle.tries, None, rand::random()));
    host.store.clone_secret_put_off(secret, next, &why).await
}

async fn revoke(host: &Host, live: &Live, idle: &IdleToken) -> Result<(), StoreError> {
    let why = match live.instance(&idle.instance) {
        None => format!(
            "the configuration has no GitLab instance `{}` any more",
            idle.instance
        ),
        Some(instance) => match revoke_in(instance, idle).await {
            Ok(()) => {
                tracing::info!(project = %idle.project, token = idle.gitlab_id, "revoked the deploy token of runs that have ended");
                return host.store.clone_revoked(idle.seq).await;
            }
            Err(error) => error.to_string(),
        },
    };
    if Timestamp::now().since(idle.created_at) > LIVES + Duration::from_secs(60 * 60) {
        tracing::warn!(why, project = %idle.project, "a deploy token of runs could not be revoked, and has ended by itself");
        return host.store.clone_revoked(idle.seq).await;
    }
    tracing::warn!(why, project = %idle.project, "the deploy token of runs that have ended could not be revoked");
    let next = Timestamp::now().plus(backoff::wait(idle.tries, None, rand::random()));
    host.store.clone_put_off(idle.seq, next, &why).await
}

async fn revoke_in(instance: &Instance, idle: &IdleToken) -> Result<(), ApiError> {
    let client = instance.client.background();
    let ids = match idle.gitlab_id {
        Some(id) => vec![id],
        // Its maker did not say what came of it.
        None => client.deploy_tokens_named(idle.project, &idle.name).await?,
    };
    for id in ids {
        client.revoke_deploy_token(idle.project, id).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(path: &str, value: &str) -> Access {
        Access {
            path: path.into(),
            username: "gitlab+deploy-token-7".to_owned(),
            value: Secret::new(value),
        }
    }

    #[test]
    fn a_secret_has_the_three_keys_and_git_reads_them() {
        let values = contents(
            "https://gitlab.example.com",
            &[access("acme/api", "gldt-a/b")],
        );
        let text = |key: &str| values.get(key).map(Secret::reveal).unwrap();
        assert_eq!(
            text(".gitconfig"),
            "[credential \"https://gitlab.example.com\"]\n\thelper = store\n"
        );
        assert_eq!(
            text(".git-credentials"),
            "https://gitlab%2Bdeploy-token-7:gldt-a%2Fb@gitlab.example.com/acme/api\n\
             https://gitlab%2Bdeploy-token-7:gldt-a%2Fb@gitlab.example.com/acme/api.git\n"
        );
        assert_eq!(text("git-provider-token"), "gldt-a/b");
        assert_eq!(values.len(), 3);
    }

    #[test]
    fn several_projects_are_told_apart_by_their_paths() {
        let all = [access("acme/api", "a"), access("acme/lib", "b")];
        let values = contents("http://127.0.0.1:1/gitlab", &all);
        let text = |key: &str| values.get(key).map(Secret::reveal).unwrap();
        assert!(text(".gitconfig").contains("[credential \"http://127.0.0.1:1\"]"));
        assert!(text(".gitconfig").contains("useHttpPath = true"));
        assert!(
            text(".git-credentials")
                .contains("http://gitlab%2Bdeploy-token-7:b@127.0.0.1:1/gitlab/acme/lib.git\n")
        );
        assert_eq!(text("git-provider-token"), "a", "the run's own project's");
    }
}
