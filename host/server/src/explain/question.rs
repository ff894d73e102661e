//! What somebody wants explained, read off one argument.
//!
//! Pure.

use penstock_model::id::InstanceName;

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// A commit of a project; it may be short.
    Commit {
        /// Full path.
        project: String,
        /// Hexadecimal digits, in lower case.
        sha: String,
    },
    /// A merge request.
    MergeRequest {
        /// The instance whose address it has.
        instance: InstanceName,
        /// Full path.
        project: String,
        /// Its number.
        iid: u64,
    },
    /// Anything else: the id of a delivery or a run, or a run's name.
    Named(String),
}

/// Shortest commit that is taken.
const SHORTEST: usize = 7;

impl Question {
    /// Reads `PROJECT@SHA`, the address of a merge request, or anything else. `instances` are names and addresses of the configuration.
    pub fn read<'a>(
        text: &str,
        instances: impl IntoIterator<Item = (&'a InstanceName, &'a str)>,
    ) -> Self {
        if let Some((project, sha)) = text.rsplit_once('@')
            && project.contains('/')
            && (SHORTEST..=64).contains(&sha.len())
            && sha.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Self::Commit {
                project: project.trim_matches('/').to_owned(),
                sha: sha.to_ascii_lowercase(),
            };
        }
        for (instance, url) in instances {
            let rest = text
                .strip_prefix(url.trim_end_matches('/'))
                .and_then(|rest| rest.strip_prefix('/'));
            let Some((project, rest)) = rest.and_then(|rest| rest.split_once("/-/merge_requests/"))
            else {
                continue;
            };
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            if let Ok(iid) = digits.parse() {
                return Self::MergeRequest {
                    instance: instance.clone(),
                    project: project.to_owned(),
                    iid,
                };
            }
        }
        Self::Named(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Question {
        let main = InstanceName::from("main");
        Question::read(text, [(&main, "https://gitlab.example.com/git")])
    }

    #[test]
    fn a_project_and_a_commit_are_told_apart_from_ids() {
        assert_eq!(
            read("acme/api@0123ABCdef"),
            Question::Commit {
                project: "acme/api".into(),
                sha: "0123abcdef".into()
            }
        );
        for other in [
            "acme:0123",
            "build-0123abcdef",
            "acme/api@main",
            "acme/api@0123",
        ] {
            assert_eq!(read(other), Question::Named(other.into()));
        }
    }

    #[test]
    fn a_merge_request_is_found_by_its_address_with_whatever_follows() {
        for tail in ["", "/diffs", "#note_7", "?tab=x"] {
            assert_eq!(
                read(&format!(
                    "https://gitlab.example.com/git/acme/deep/api/-/merge_requests/42{tail}"
                )),
                Question::MergeRequest {
                    instance: "main".into(),
                    project: "acme/deep/api".into(),
                    iid: 42
                }
            );
        }
        let foreign = "https://other.example.com/acme/api/-/merge_requests/42";
        assert_eq!(read(foreign), Question::Named(foreign.into()));
    }
}
