//! What a container would do, read off its command.
//!
//! A small reading of shell, enough for the tasks of tests: commands are separated by line ends,
//! `;` and `&&`. `echo` and `printf` write to the log, or with `> /tekton/results/NAME` (also
//! `| tee …`) a Tekton result; `exit N` and `false` end the container; `sleep infinity` keeps it
//! running until its pod is deleted. Any other command does nothing and the log says so.
//! Variables, conditions, loops and functions are not understood.
//!
//! Without a script: `exit-N` in the image's name, an argument or a variable's value gives the exit
//! code N, so a run can be told to fail from outside.

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::access::decode_base64;

const RESULTS: &str = "/tekton/results/";
/// Tekton's init container that writes `script:` texts to files.
const PLACE_SCRIPTS: &str = "place-scripts";

/// How a container ends and what it leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code.
    pub exit_code: i32,
    /// Tekton results, by name.
    pub results: Vec<(String, String)>,
    /// All that it prints.
    pub log: String,
    /// Whether it runs until its pod is deleted.
    pub endless: bool,
    /// Whether it never ran, because a step before it failed.
    pub skipped: bool,
}

impl Outcome {
    /// The outcome of a step that never ran.
    #[must_use]
    pub fn skipped() -> Self {
        Self {
            exit_code: 1,
            skipped: true,
            ..Self::default()
        }
    }
}

/// Plays a container of `pod`.
#[must_use]
pub fn play(pod: &Pod, container: &Container) -> Outcome {
    let mut outcome = read(&text(pod, container));
    if outcome.exit_code == 0
        && let Some(code) = told_exit_code(container)
    {
        outcome.exit_code = code;
    }
    outcome
}

/// Reads a shell text.
#[must_use]
pub fn read(text: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for command in commands(text) {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["exit", rest @ ..] => {
                outcome.exit_code = rest.first().and_then(|code| code.parse().ok()).unwrap_or(0);
                break;
            }
            ["false"] => {
                outcome.exit_code = 1;
                break;
            }
            ["sleep", "infinity"] => {
                outcome.endless = true;
                break;
            }
            ["echo", rest @ ..] => say(&mut outcome, rest, "\n"),
            ["printf", "%s" | "%s\\n", rest @ ..] | ["printf", rest @ ..] => {
                say(&mut outcome, rest, "")
            }
            [] | ["set", ..] | ["true" | ":"] => {}
            _ => outcome.log.push_str(&format!(
                "(the kubelet stand-in does not run: {})\n",
                words.join(" ")
            )),
        }
    }
    outcome
}

/// `echo` and `printf`: to the log, or into a result.
fn say(outcome: &mut Outcome, words: &[&str], end: &str) {
    let (words, end) = match words {
        ["-n", rest @ ..] => (rest, ""),
        _ => (words, end),
    };
    let redirected = words
        .iter()
        .position(|word| matches!(*word, ">" | ">>" | "|"));
    let (said, target) = words.split_at(redirected.unwrap_or(words.len()));
    let mut said = said.join(" ");
    said.push_str(end);
    let is_tee = target.first() == Some(&"|");
    match target.last().and_then(|path| path.strip_prefix(RESULTS)) {
        Some(name) => {
            if is_tee {
                outcome.log.push_str(&said);
            }
            outcome.results.retain(|(known, _)| known != name);
            outcome.results.push((name.to_owned(), said));
        }
        // A pipe to anywhere else still prints; a file that is not a result is nobody's.
        None if target.is_empty() || is_tee => outcome.log.push_str(&said),
        None => {}
    }
}

/// Splits a text into commands and those into words, with quotes taken off.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => while characters.next_if(|c| *c != '\n').is_some() {},
            (None, '\n' | ';') => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            (None, '&') if characters.next_if_eq(&'&').is_some() => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            (None, '>' | '|') => {
                words.extend(word.take());
                characters.next_if_eq(&c);
                words.push(c.to_string());
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    commands.push(words);
    commands
}

/// The shell text of a container: its Tekton script, what stands behind `sh -c`, or its command line.
fn text(pod: &Pod, container: &Container) -> String {
    let arguments = container.args.as_deref().unwrap_or_default();
    let mut line: Vec<&str> = Vec::new();
    match arguments
        .iter()
        .position(|argument| argument == "-entrypoint")
    {
        // Tekton's entrypoint: `… -entrypoint PROGRAM -- ARGUMENTS`.
        Some(at) => {
            line.extend(arguments.get(at + 1).map(String::as_str));
            let behind = arguments
                .iter()
                .skip(at)
                .skip_while(|argument| *argument != "--")
                .skip(1);
            line.extend(behind.map(String::as_str));
        }
        None => {
            line.extend(container.command.iter().flatten().map(String::as_str));
            line.extend(arguments.iter().map(String::as_str));
        }
    }
    match line.as_slice() {
        [file, ..] if file.starts_with("/tekton/scripts/") => {
            placed_script(pod, file).unwrap_or_default()
        }
        [.., "-c" | "-ec" | "-ce" | "-exc", text] => (*text).to_owned(),
        words => words.join(" "),
    }
}

/// The script that Tekton's init container writes to `file`: base64 in a here-document.
fn placed_script(pod: &Pod, file: &str) -> Option<String> {
    let init = pod
        .spec
        .as_ref()?
        .init_containers
        .as_ref()?
        .iter()
        .find(|init| init.name == PLACE_SCRIPTS)?;
    let shell = init.args.as_ref()?.last()?;
    let mut lines = shell
        .lines()
        .skip_while(|line| *line != format!("scriptfile=\"{file}\""));
    let encoded = lines
        .by_ref()
        .skip_while(|line| !line.starts_with("cat > "))
        .nth(1)?;
    decode_base64(encoded).ok()
}

/// `exit-N` in the image's name, an argument or a variable.
fn told_exit_code(container: &Container) -> Option<i32> {
    let variables = container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value.as_deref());
    let arguments = container.args.iter().flatten().map(String::as_str);
    container
        .image
        .as_deref()
        .into_iter()
        .chain(arguments)
        .chain(variables)
        .find_map(|text| {
            let (_, rest) = text.split_once("exit-")?;
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .map_or(rest, |end| rest.split_at(end).0);
            digits.parse().ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, exit_code: i32, log: &str, results: &[(&str, &str)]) {
        let outcome = read(text);
        assert_eq!(outcome.exit_code, exit_code, "{text}");
        assert_eq!(outcome.log, log, "{text}");
        let found: Vec<(&str, &str)> = outcome
            .results
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        assert_eq!(found, results, "{text}");
    }

    #[test]
    fn echo_is_logged_and_quotes_are_taken_off() {
        check(
            "#!/bin/sh\nset -e\necho 'a; b' \"c d\" # why\n",
            0,
            "a; b c d\n",
            &[],
        );
    }

    #[test]
    fn exit_ends_the_script_with_its_code() {
        check("echo before; exit 3\necho after", 3, "before\n", &[]);
        check("false && echo after", 1, "", &[]);
    }

    #[test]
    fn what_goes_to_a_results_file_is_a_result() {
        check(
            "echo -n sha256:1 > /tekton/results/digest",
            0,
            "",
            &[("digest", "sha256:1")],
        );
        check(
            "printf %s main | tee /tekton/results/branch",
            0,
            "main",
            &[("branch", "main")],
        );
    }

    #[test]
    fn a_command_that_is_not_known_is_said_in_the_log() {
        check(
            "cargo test",
            0,
            "(the kubelet stand-in does not run: cargo test)\n",
            &[],
        );
    }

    #[test]
    fn sleep_infinity_never_ends() {
        assert!(read("echo on; sleep infinity").endless);
    }

    #[test]
    fn an_image_can_order_an_exit_code() {
        let container = Container {
            image: Some("example/exit-7:1".into()),
            ..Container::default()
        };
        assert_eq!(play(&Pod::default(), &container).exit_code, 7);
    }
}
