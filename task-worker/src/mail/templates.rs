use std::{fs, io, path::Path};

use anyhow::{Context, ensure};
use include_dir::{Dir, include_dir};
use minijinja::{Environment, UndefinedBehavior, Value, value::Serde};

use super::MailError;

static BUILT_IN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/templates");

/// The files of a template. Those whose name ends with `.html` get their values escaped.
const SUBJECT: &str = "subject.txt";
const TEXT: &str = "body.txt";
const HTML: &str = "body.html";

/// A longer subject is cut: nobody reads on, and an email should not fail for it.
const SUBJECT_CHARS_MAX: usize = 200;
/// A body that is longer is a mistake, and mail servers refuse a few times as much.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The words of one email.
#[derive(Debug)]
pub(super) struct Text {
    /// One line.
    pub subject: String,
    pub plain: String,
    pub html: String,
}

pub(super) struct Templates {
    environment: Environment<'static>,
}

impl Templates {
    /// Compiles the named templates: those of the folder, or the built-in ones.
    pub fn load<'a>(folder: Option<&Path>, names: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Self> {
        let mut environment = Environment::new();
        // A name that the values lack is a mistake, and must not become a gap in somebody's email.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        for name in names {
            for file in [SUBJECT, TEXT, HTML] {
                let path = format!("{name}/{file}");
                let source = match folder {
                    Some(folder) => fs::read_to_string(folder.join(&path))
                        .with_context(|| format!("template {}", folder.join(&path).display()))?,
                    None => built_in(&path)?,
                };
                ensure!(
                    source.len() <= BODY_BYTES_MAX,
                    "template {path} is longer than {BODY_BYTES_MAX} bytes"
                );
                environment
                    .add_template_owned(path.clone(), source)
                    .with_context(|| format!("template {path} does not compile"))?;
            }
        }
        Ok(Self { environment })
    }

    pub fn render(&self, template: &str, values: &serde_json::Value) -> Result<Text, MailError> {
        let values = Value::from(Serde(values));
        let rendered = |file| self.rendered(&format!("{template}/{file}"), &values);
        let subject = one_line(&rendered(SUBJECT)?);
        if subject.is_empty() {
            return Err(MailError::Refused(format!("the subject of {template} is empty")));
        }
        Ok(Text { subject, plain: lines(&rendered(TEXT)?), html: lines(&rendered(HTML)?) })
    }

    fn rendered(&self, path: &str, values: &Value) -> Result<String, MailError> {
        let mut written = Bounded::default();
        let template = self.environment.get_template(path);
        match template.and_then(|template| template.render_captured_to(values.clone(), &mut written)) {
            _ if written.is_full => {
                Err(MailError::Refused(format!("template {path}: longer than {BODY_BYTES_MAX} bytes")))
            }
            Err(error) => Err(MailError::Refused(format!("template {path}: {error}"))),
            Ok(_) => Ok(String::from_utf8_lossy(&written.bytes).into_owned()),
        }
    }
}

fn built_in(path: &str) -> anyhow::Result<String> {
    let file = BUILT_IN.get_file(path).with_context(|| format!("there is no built-in template {path}"))?;
    let source = file.contents_utf8().with_context(|| format!("built-in template {path} is not UTF-8"))?;
    Ok(source.to_owned())
}

/// What a template writes, up to a bound: a loop over large values must not take all memory.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    is_full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.is_full |= self.bytes.len() + bytes.len() > BODY_BYTES_MAX;
        if self.is_full {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Line breaks and control characters become spaces: what stands in a subject can never begin another header.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    if line.chars().count() <= SUBJECT_CHARS_MAX {
        return line;
    }
    line.chars().take(SUBJECT_CHARS_MAX - 1).chain(['…']).collect()
}

/// A body: no control characters but those that lay it out, and one line break at its end.
fn lines(text: &str) -> String {
    let mut body = text.replace("\r\n", "\n").replace('\r', "\n");
    body.retain(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    body.truncate(body.trim_end().len());
    body.push('\n');
    body
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn templates(subject: &str, text: &str, html: &str) -> anyhow::Result<Templates> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("note"))?;
        for (file, source) in [(SUBJECT, subject), (TEXT, text), (HTML, html)] {
            fs::write(folder.path().join("note").join(file), source)?;
        }
        Templates::load(Some(folder.path()), ["note"])
    }

    fn refusal(result: Result<Text, MailError>) -> String {
        match result {
            Err(MailError::Refused(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn html_is_escaped_and_text_is_not() {
        let text = templates("{{ a }}", "{{ a }}", "{{ a }}").unwrap().render("note", &json!({"a": "<b>&"}));
        let Text { subject, plain, html } = text.unwrap();
        assert_eq!((&*subject, &*plain, &*html), ("<b>&", "<b>&\n", "&lt;b&gt;&amp;\n"));
    }

    #[test]
    fn a_name_that_the_values_lack_is_refused() {
        let templates = templates("Hi", "{{ nmae }}", "").unwrap();
        assert!(refusal(templates.render("note", &json!({"name": "Ada"}))).contains("note/body.txt"));
        assert!(refusal(templates.render("letter", &json!({}))).contains("letter/subject.txt"));
    }

    #[test]
    fn a_subject_is_one_short_line() {
        let subject = |text: &str| {
            let text = json!({ "text": text });
            templates("\n{{ text }}\n", "", "").unwrap().render("note", &text).map(|text| text.subject)
        };
        assert_eq!(subject("Hi\r\nBcc: x@y.org\u{2028}\0!").unwrap(), "Hi Bcc: x@y.org !");
        assert_eq!(subject(&"ä".repeat(200)).unwrap(), "ä".repeat(200));
        assert_eq!(subject(&"ä".repeat(201)).unwrap(), format!("{}…", "ä".repeat(199)));
        assert!(refusal(templates("\n", "", "").unwrap().render("note", &json!({}))).contains("empty"));
    }

    #[test]
    fn a_body_ends_with_one_line_break_and_holds_no_control_characters() {
        assert_eq!(lines("a\u{1b}[1m\r\n\tb\rc\0\n\n"), "a[1m\n\tb\nc\n");
    }

    #[test]
    fn a_body_that_grows_too_long_is_refused() {
        let templates = templates("Hi", "{% for _ in range(2000) %}{{ a }}{% endfor %}", "").unwrap();
        assert!(templates.render("note", &json!({"a": "a".repeat(500)})).is_ok());
        assert!(refusal(templates.render("note", &json!({"a": "a".repeat(600)}))).contains("1048576 bytes"));
    }

    #[test]
    fn templates_that_are_missing_or_wrong_are_found_at_the_start() {
        let missing = Templates::load(None, ["no-such-policy"]).err().unwrap();
        assert!(format!("{missing:#}").contains("no-such-policy/subject.txt"), "{missing:#}");
        let wrong = templates("Hi", "{% if %}", "").err().unwrap();
        assert!(format!("{wrong:#}").contains("note/body.txt does not compile"), "{wrong:#}");
    }
}
