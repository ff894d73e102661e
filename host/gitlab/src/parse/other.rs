//! Events about what GitLab does with code, and all the kinds without a type of their own.

use penstock_model::event::{Deployment, EventKind, Pipeline, Release, TokenExpiring};
use penstock_model::id::CommitId;

use super::{ParseError, Read, Reader, person, plain};
use crate::claims::full_ref;
use crate::payload;

impl Reader<'_> {
    pub(super) fn pipeline(&self) -> Result<Read, ParseError> {
        let body: payload::Pipeline = self.body()?;
        let found = self.wanted("object_attributes", body.object_attributes)?;
        let sha = self.commit("object_attributes.sha", found.sha.as_deref())?;
        let sha = self.wanted("object_attributes.sha", sha)?;
        let git_ref = self.wanted("object_attributes.ref", found.git_ref)?;
        let tag = found.tag.unwrap_or(false);
        let merge_request = body.merge_request.unwrap_or_default();
        Ok(Read {
            happened_at: None,
            actor: person(body.user),
            ref_name: Some(full_ref(&git_ref, tag)),
            revision: Some(sha.to_string()),
            source_project: merge_request.source_project_id,
            kind: EventKind::Pipeline(Pipeline {
                id: self.wanted("object_attributes.id", found.id)?,
                git_ref,
                tag,
                sha,
                status: found.status.unwrap_or_default(),
                source: found.source.unwrap_or_default(),
                merge_request: merge_request.iid,
            }),
        })
    }

    pub(super) fn deployment(&self) -> Result<Read, ParseError> {
        let body: payload::Deployment = self.body()?;
        // The whole id stands only at the end of the commit's address.
        let linked = body
            .commit_url
            .as_deref()
            .and_then(|url| url.rsplit('/').next());
        let whole = linked
            .filter(|text| CommitId::parse(text).is_ok())
            .map(str::to_owned);
        let sha = self.wanted("short_sha", whole.or(body.short_sha))?;
        Ok(Read {
            happened_at: None,
            actor: person(body.user),
            // A branch or a tag: the payload does not say which.
            ref_name: None,
            revision: Some(sha.clone()),
            source_project: None,
            kind: EventKind::Deployment(Deployment {
                id: self.wanted("deployment_id", body.deployment_id)?,
                status: body.status.unwrap_or_default(),
                environment: body.environment.unwrap_or_default(),
                tier: body.environment_tier,
                git_ref: body.git_ref.unwrap_or_default(),
                sha,
            }),
        })
    }

    pub(super) fn release(&self) -> Result<Read, ParseError> {
        let body: payload::Release = self.body()?;
        let tag = self.wanted("tag", body.tag)?;
        let commit = body.commit.and_then(|commit| commit.id);
        let commit = self.commit("commit.id", commit.as_deref())?;
        Ok(Read {
            happened_at: None,
            actor: None,
            ref_name: Some(full_ref(&tag, true)),
            revision: commit.map(|id| id.to_string()),
            source_project: None,
            kind: EventKind::Release(Release {
                name: body.name.unwrap_or_else(|| tag.clone()),
                tag,
                action: body.action.unwrap_or_default(),
            }),
        })
    }

    pub(super) fn token_expiring(&self) -> Result<Read, ParseError> {
        let body: payload::TokenExpiring = self.body()?;
        let found = self.wanted("object_attributes", body.object_attributes)?;
        let (project, group) = (
            body.project.unwrap_or_default(),
            body.group.unwrap_or_default(),
        );
        let owner = project
            .path_with_namespace
            .or(group.full_path)
            .or(group.group_path);
        let kind = EventKind::TokenExpiring(TokenExpiring {
            token_id: self.wanted("object_attributes.id", found.id)?,
            name: found.name.unwrap_or_default(),
            owner,
            expires_at: found.expires_at.unwrap_or_default(),
        });
        Ok(Read {
            kind,
            ..plain("access_token", None)
        })
    }

    pub(super) fn other(&self, word: &str) -> Result<Read, ParseError> {
        let body: payload::Other = self.body()?;
        let mut read = plain(word, person(body.user));
        if word == "build" {
            let text = |value: Option<serde_json::Value>| {
                value.and_then(|value| value.as_str().map(str::to_owned))
            };
            let tag = body.tag.and_then(|tag| tag.as_bool()).unwrap_or(false);
            read.ref_name = text(body.git_ref).map(|name| full_ref(&name, tag));
            let sha = text(body.sha);
            read.revision = self.commit("sha", sha.as_deref())?.map(|id| id.to_string());
        }
        Ok(read)
    }
}
