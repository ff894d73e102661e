//! What a plugin sees of the world during one call: GitLab, the store and the tenant's places, each behind a lookup.

use bytes::Bytes;
use std::sync::Arc;

use penstock_gitlab::{Client, EventContext, lookup};
use penstock_model::event::Event;
use penstock_model::id::{PluginName, Timestamp};
use penstock_model::lookup::{Answer, HostFault, Lookup, LookupError, PlaceView};
use penstock_model::tenant::Place;
use penstock_sandbox::{Asked, BoxFuture, World};
use penstock_store::{StateScope, Store, StoreError};
use tokio::sync::OnceCell;

use super::fetch;
use crate::trace;

/// The world of one call.
pub(super) struct CallWorld {
    pub(super) store: Store,
    pub(super) client: Client,
    pub(super) context: EventContext,
    pub(super) event: Arc<Event>,
    pub(super) plugin: PluginName,
    pub(super) body: Bytes,
    pub(super) headers: Vec<(String, String)>,
    /// The body, parsed when the first pointer into it is asked for.
    pub(super) json: OnceCell<serde_json::Value>,
    pub(super) places: Vec<Place>,
    pub(super) largest: u64,
    /// Where the spans of its calls belong: plugins run elsewhere.
    pub(super) place: trace::Place,
}

impl World for CallWorld {
    fn ask(&self, question: Lookup) -> BoxFuture<'_, Asked> {
        trace::under(self.place.clone(), Box::pin(self.answer(question)))
    }
}

impl CallWorld {
    async fn answer(&self, question: Lookup) -> Asked {
        match question {
            Lookup::Payload => Ok(Ok(Answer::Text(
                String::from_utf8_lossy(&self.body).into_owned(),
            ))),
            Lookup::PayloadAt(pointer) => {
                let json = self.json().await?;
                Ok(Ok(Answer::Part(
                    json.pointer(&pointer).map(ToString::to_string),
                )))
            }
            Lookup::Headers => Ok(Ok(Answer::Headers(self.headers.clone()))),
            Lookup::Places => Ok(Ok(Answer::Places(
                self.places.iter().map(|place| self.view(place)).collect(),
            ))),
            Lookup::Runs { filter, limit } => {
                let Some(project) = self.event.scope.project() else {
                    return Ok(Err(no_project()));
                };
                let runs = self
                    .stored(self.store.runs(
                        &self.plugin,
                        &self.event.instance,
                        project.id,
                        filter,
                        limit.min(1_000),
                    ))
                    .await?;
                Ok(Ok(Answer::Runs(runs)))
            }
            Lookup::History { pipeline, days } => {
                let Some(project) = self.event.scope.project() else {
                    return Ok(Err(no_project()));
                };
                let now = Timestamp::now();
                let summary = self
                    .stored(self.store.summary(
                        &self.plugin,
                        &self.event.instance,
                        project.id,
                        &pipeline,
                        days,
                        now,
                    ))
                    .await?;
                Ok(Ok(Answer::Summary(summary)))
            }
            Lookup::Fetch(url) => {
                let fetched: BoxFuture<'_, Asked> = Box::pin(fetch::get(&url, self.largest));
                fetched.await
            }
            Lookup::StateGet(key) => {
                let value = self
                    .stored(
                        self.store
                            .state_value(&self.state_scope()?, &key, Timestamp::now()),
                    )
                    .await?;
                Ok(Ok(Answer::State(value)))
            }
            Lookup::StateKeys { prefix, limit } => {
                let keys = self
                    .stored(self.store.state_keys(
                        &self.state_scope()?,
                        &prefix,
                        limit,
                        Timestamp::now(),
                    ))
                    .await?;
                Ok(Ok(Answer::Keys(keys)))
            }
            // Writes wait for the commit; the sandbox asks about none of them.
            Lookup::StatePut(_) | Lookup::StateDelete(_) => Err(HostFault {
                what: "a write of the state was asked for as if it were a question".to_owned(),
                retry_after: None,
            }),
            gitlab @ (Lookup::Folder { .. }
            | Lookup::Files { .. }
            | Lookup::Resolve(_)
            | Lookup::FindCommit(_)
            | Lookup::ChangedPaths
            | Lookup::FindMergeRequest(_)
            | Lookup::OpenMergeRequests(_)
            | Lookup::MergeRequestApprovals(_)
            | Lookup::FindUser(_)
            | Lookup::Access(_)
            | Lookup::GroupAccess { .. }) => {
                let asked: BoxFuture<'_, Asked> =
                    Box::pin(lookup(&self.client, &self.context, &gitlab));
                asked.await
            }
        }
    }

    /// Asks the store. Boxed here, where the compiler still knows how long the arguments live: inside the boxed answer it no longer does.
    fn stored<'a, T: 'a>(
        &self,
        question: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, HostFault>> {
        Box::pin(async move { question.await.map_err(fault) })
    }

    async fn json(&self) -> Result<&serde_json::Value, HostFault> {
        let read = || async {
            serde_json::from_slice(&self.body).map_err(|error| HostFault {
                what: format!("the stored body is no JSON any more: {error}"),
                retry_after: None,
            })
        };
        self.json.get_or_try_init(read).await
    }

    fn view(&self, place: &Place) -> PlaceView {
        PlaceView {
            name: place.name.to_string(),
            cluster: place.cluster.to_string(),
            namespace: place.namespace.clone(),
            allowed: place.when.allows(self.event.provenance.trust),
        }
    }

    fn state_scope(&self) -> Result<StateScope, HostFault> {
        let project = self.event.scope.project().ok_or_else(|| HostFault {
            what: "state is kept for projects, and this event belongs to none".to_owned(),
            retry_after: None,
        })?;
        Ok(StateScope {
            instance: self.event.instance.clone(),
            project: project.id,
            plugin: self.plugin.clone(),
        })
    }
}

fn no_project() -> LookupError {
    LookupError::Invalid("the event belongs to no project".to_owned())
}

fn fault(error: StoreError) -> HostFault {
    HostFault {
        what: error.to_string(),
        retry_after: None,
    }
}
