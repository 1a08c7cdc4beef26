//! The one error that leaves this crate: it becomes a rhapsode::Error on the other side of the C ABI.

use std::borrow::Cow;

use serde_json::{json, Value as Json};

#[derive(Debug, Default, Clone)]
pub struct Fail {
    pub kind: Cow<'static, str>,
    pub code: Cow<'static, str>,
    pub message: String,
    pub line: u64,
    pub column: u64,
    pub path: String,
    pub found: String,
    pub expected: String,
    pub help: String,
}

pub type Outcome<T> = Result<T, Fail>;

impl Fail {
    pub fn integrity(code: &'static str, message: impl Into<String>) -> Fail {
        Fail::of("integrity", code, message)
    }
    pub fn usage(code: &'static str, message: impl Into<String>) -> Fail {
        Fail::of("usage", code, message)
    }
    pub fn unsupported(code: &'static str, message: impl Into<String>) -> Fail {
        Fail::of("unsupported", code, message)
    }
    pub fn runtime(code: &'static str, message: impl Into<String>) -> Fail {
        Fail::of("runtime", code, message)
    }
    fn of(kind: &'static str, code: &'static str, message: impl Into<String>) -> Fail {
        Fail { kind: kind.into(), code: code.into(), message: message.into(), ..Fail::default() }
    }
    pub fn at(mut self, path: impl Into<String>) -> Fail {
        self.path = path.into();
        self
    }
    pub fn saw(mut self, found: impl Into<String>) -> Fail {
        self.found = shorten(&found.into());
        self
    }
    pub fn want(mut self, expected: impl Into<String>) -> Fail {
        self.expected = expected.into();
        self
    }
    pub fn hint(mut self, help: impl Into<String>) -> Fail {
        self.help = help.into();
        self
    }
    pub fn on(mut self, line: u64, column: u64) -> Fail {
        self.line = line;
        self.column = column;
        self
    }
    pub fn to_json(&self) -> String {
        json!({"kind": self.kind, "code": self.code, "message": shorten(&self.message), "line": self.line,
               "column": self.column, "path": shorten(&self.path), "found": self.found,
               "expected": self.expected, "help": self.help})
        .to_string()
    }
    /// What to_json wrote.
    pub fn from_json(bytes: &[u8]) -> Fail {
        let json: Json = serde_json::from_slice(bytes).unwrap_or_default();
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_string();
        let number = |name: &str| json[name].as_u64().unwrap_or_default();
        Fail {
            kind: text("kind").into(),
            code: text("code").into(),
            message: text("message"),
            line: number("line"),
            column: number("column"),
            path: text("path"),
            found: text("found"),
            expected: text("expected"),
            help: text("help"),
        }
    }
}

/// Values from hostile files are quoted in errors: never more than a line of them.
pub fn shorten(text: &str) -> String {
    const LIMIT: usize = 400;
    if text.len() <= LIMIT {
        return text.to_string();
    }
    let mut end = LIMIT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}… ({} bytes)", &text[..end], text.len())
}
