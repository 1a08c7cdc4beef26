//! The one error that leaves this crate: it becomes a rhapsode::Error on the other side of the C ABI.

use serde_json::json;

#[derive(Debug, Default, Clone)]
pub struct Fail {
    pub kind: &'static str,
    pub code: &'static str,
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
        Fail { kind: "integrity", code, message: message.into(), ..Fail::default() }
    }
    pub fn usage(code: &'static str, message: impl Into<String>) -> Fail {
        Fail { kind: "usage", code, message: message.into(), ..Fail::default() }
    }
    pub fn unsupported(code: &'static str, message: impl Into<String>) -> Fail {
        Fail { kind: "unsupported", code, message: message.into(), ..Fail::default() }
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
