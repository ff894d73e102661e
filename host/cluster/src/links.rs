//! Where a click on a run leads. Pure; values are encoded, so a name can't lead elsewhere.

use penstock_model::id::{ClusterName, EffectId};

use crate::names::segment;

/// Variables of a template.
const VARIABLES: [&str; 6] = ["cluster", "namespace", "name", "uid", "effect", "task"];

/// The page that shows the runs of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// No page.
    #[default]
    None,
    /// Tekton Dashboard at this address.
    TektonDashboard(BaseUrl),
    /// The OpenShift console at this address.
    OpenshiftConsole(BaseUrl),
    /// Penstock's own page at this address.
    Penstock(BaseUrl),
    /// Anything else.
    Custom {
        /// Page of a run.
        run: UrlTemplate,
        /// Page of a task of a run; none: the run's.
        task: Option<UrlTemplate>,
    },
}

/// What a link leads to.
#[derive(Clone, Copy, Debug)]
pub struct LinkTo<'a> {
    /// The cluster.
    pub cluster: &'a ClusterName,
    /// The run's namespace.
    pub namespace: &'a str,
    /// Name of the PipelineRun.
    pub name: &'a str,
    /// Its UID, where it is known.
    pub uid: Option<&'a str>,
    /// The effect that made it.
    pub effect: EffectId,
}

/// Address of a web page, without a `/` at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

/// Address with variables, such as `https://ci.example.com/{namespace}/{name}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlTemplate(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(&'static str),
}

/// Why a text is no address of a page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Neither `https://` nor `http://` with a host.
    #[error("`{url}` is no address of a page: write `https://` and a host")]
    NoUrl {
        /// What was given.
        url: String,
    },
    /// A variable that there isn't.
    #[error(
        "`{{{variable}}}` is no variable of a link; there are `{{cluster}}`, `{{namespace}}`, `{{name}}`, `{{uid}}`, `{{effect}}` and `{{task}}`"
    )]
    UnknownVariable {
        /// What was given.
        variable: String,
    },
}

/// Checks for a scheme and a host that no variable reaches into.
fn check(url: &str) -> Result<(), LinkError> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let host = rest
        .and_then(|rest| rest.split(['/', '?', '#']).next())
        .unwrap_or_default();
    let odd = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '{' | '}' | '@' | '"' | '<' | '>')
    };
    if host.is_empty()
        || host.contains(odd)
        || url.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Err(LinkError::NoUrl {
            url: url.to_owned(),
        });
    }
    Ok(())
}

impl BaseUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// It has no scheme of the web or no host.
    pub fn parse(url: &str) -> Result<Self, LinkError> {
        check(url)?;
        Ok(Self(url.trim_end_matches('/').to_owned()))
    }

    /// The address, without a `/` at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl UrlTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// It has no scheme of the web, no fixed host, or a variable that there isn't.
    pub fn parse(template: &str) -> Result<Self, LinkError> {
        check(template)?;
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            // Without its `}` a variable is none that there is.
            let (variable, tail) = after.split_once('}').unwrap_or(("", after));
            let known = VARIABLES.into_iter().find(|known| *known == variable);
            let known = known.ok_or_else(|| LinkError::UnknownVariable {
                variable: variable.to_owned(),
            })?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Variable(known));
            rest = tail;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    fn fill(&self, to: &LinkTo<'_>, task: Option<&str>) -> String {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Variable("cluster") => segment(to.cluster.as_str()),
                Piece::Variable("namespace") => segment(to.namespace),
                Piece::Variable("name") => segment(to.name),
                Piece::Variable("uid") => segment(to.uid.unwrap_or_default()),
                Piece::Variable("effect") => to.effect.hex(),
                Piece::Variable(_) => segment(task.unwrap_or_default()),
            })
            .collect()
    }
}

impl Links {
    /// Page of a run.
    pub fn run(&self, to: &LinkTo<'_>) -> Option<String> {
        let (namespace, name) = (segment(to.namespace), segment(to.name));
        Some(match self {
            Self::None => return None,
            Self::TektonDashboard(base) => {
                format!("{}/#/namespaces/{namespace}/pipelineruns/{name}", base.0)
            }
            Self::OpenshiftConsole(base) => {
                format!(
                    "{}/k8s/ns/{namespace}/tekton.dev~v1~PipelineRun/{name}",
                    base.0
                )
            }
            Self::Penstock(base) => format!("{}/runs/{}", base.0, to.effect.hex()),
            Self::Custom { run, .. } => run.fill(to, None),
        })
    }

    /// Page of a task of a run; where there is none, the run's.
    pub fn task(&self, to: &LinkTo<'_>, task: &str) -> Option<String> {
        let run = self.run(to)?;
        Some(match self {
            Self::TektonDashboard(_) => format!("{run}?pipelineTask={}", segment(task)),
            Self::OpenshiftConsole(_) => format!("{run}/logs/{}", segment(task)),
            Self::Custom {
                task: Some(template),
                ..
            } => template.fill(to, Some(task)),
            Self::None | Self::Penstock(_) | Self::Custom { task: None, .. } => run,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(links: &Links, name: &str, run: &str, task: &str) {
        let cluster = ClusterName::new("prod");
        let effect = EffectId::parse(&"ab".repeat(32)).unwrap();
        let to = LinkTo {
            cluster: &cluster,
            namespace: "ci-pay",
            name,
            uid: Some("u-1"),
            effect,
        };
        assert_eq!(links.run(&to).as_deref(), Some(run));
        assert_eq!(links.task(&to, "build all").as_deref(), Some(task));
    }

    #[test]
    fn every_page_has_its_own_address() {
        let base = BaseUrl::parse("https://ci.example.com/x/").unwrap();
        check(
            &Links::TektonDashboard(base.clone()),
            "build-1",
            "https://ci.example.com/x/#/namespaces/ci-pay/pipelineruns/build-1",
            "https://ci.example.com/x/#/namespaces/ci-pay/pipelineruns/build-1?pipelineTask=build%20all",
        );
        check(
            &Links::OpenshiftConsole(base.clone()),
            "build-1",
            "https://ci.example.com/x/k8s/ns/ci-pay/tekton.dev~v1~PipelineRun/build-1",
            "https://ci.example.com/x/k8s/ns/ci-pay/tekton.dev~v1~PipelineRun/build-1/logs/build%20all",
        );
        let own = format!("https://ci.example.com/x/runs/{}", "ab".repeat(32));
        check(&Links::Penstock(base), "build-1", &own, &own);
    }

    #[test]
    fn a_template_is_filled_with_encoded_values() {
        let run =
            UrlTemplate::parse("https://ci.example.com/{cluster}/{namespace}?run={name}&uid={uid}")
                .unwrap();
        let task = UrlTemplate::parse("https://ci.example.com/{name}#{task}").unwrap();
        check(
            &Links::Custom {
                run,
                task: Some(task),
            },
            "a/../b?c",
            "https://ci.example.com/prod/ci-pay?run=a%2F..%2Fb%3Fc&uid=u-1",
            "https://ci.example.com/a%2F..%2Fb%3Fc#build%20all",
        );
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for wrong in [
            "",
            "ci.example.com",
            "javascript:alert(1)",
            "https://",
            "https:///x",
            "https://a b/",
            "https://u@host/",
        ] {
            assert!(BaseUrl::parse(wrong).is_err(), "{wrong}");
        }
        assert!(matches!(
            UrlTemplate::parse("https://{name}.example.com/"),
            Err(LinkError::NoUrl { .. })
        ));
        let unknown = UrlTemplate::parse("https://example.com/{pod}");
        assert_eq!(
            unknown,
            Err(LinkError::UnknownVariable {
                variable: "pod".into()
            })
        );
        assert!(UrlTemplate::parse("https://example.com/{name").is_err());
    }
}
