//! A checkpoint's chat template in the environment that transformers gives it. Owns the limits: a hostile template ends in an
//! error, soon and small. Knows nothing of tokens.

use std::fmt::Write as _;
use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};
use serde_json::Value as Json;

use crate::confined;
use crate::fail::{Fail, Outcome};
use crate::strict_json;
use crate::tojson;

const MAX_SOURCE_BYTES: usize = 64 << 10;
const MAX_OUTPUT_BYTES: usize = 8 << 20;
const BASE_FUEL: u64 = 250_000;
const RECURSION_LIMIT: usize = 120;
const MAX_WIDTH: i64 = 256;
const NAME: &str = "chat_template";

fn refuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn raise_exception(message: Value) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("raise_exception: {message}")))
}

/// The local time, as strftime writes it.
fn strftime_now(format: &str) -> Result<Value, Error> {
    if format.len() > 256 {
        return Err(refuse("the time format is longer than 256 bytes"));
    }
    let format = std::ffi::CString::new(format).map_err(|_| refuse("the time format holds a NUL"))?;
    let mut text = [0u8; 4096];
    let size = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut parts: libc::tm = std::mem::zeroed();
        libc::localtime_r(&now, &mut parts);
        libc::strftime(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), &parts)
    };
    Ok(Value::from(String::from_utf8_lossy(&text[..size]).into_owned()))
}

/// Jinja's indent(width=4, first=False, blank=False), with a bound on the width.
fn indent(state: &State, text: &str, positional: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let pick = |index: usize, name: &str| -> Result<Option<Value>, Error> {
        let named: Option<Value> = kwargs.get(name)?;
        Ok(positional.get(index).cloned().or(named))
    };
    let width = pick(0, "width")?.unwrap_or_else(|| Value::from(4));
    let first = pick(1, "first")?.is_some_and(|v| v.is_true());
    let blank = pick(2, "blank")?.is_some_and(|v| v.is_true());
    kwargs.assert_all_used()?;
    let prefix = match width.as_str() {
        Some(s) => s.to_string(),
        None => " ".repeat(width.as_i64().filter(|w| *w <= MAX_WIDTH).ok_or_else(|| refuse("too wide an indent"))?.max(0) as usize),
    };
    if prefix.len() > MAX_WIDTH as usize {
        return Err(refuse("too wide an indent"));
    }
    let lines: Vec<&str> = text.split('\n').collect();
    state.consume_fuel((text.len() + lines.len() * prefix.len()) as u64 / 64)?;
    let mut out = String::new();
    for (i, line) in lines.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if (i > 0 || first) && (blank || !line.is_empty()) {
            out.push_str(&prefix);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// str.format writes widths out in full, so they are bounded: no four digits in a row, no width taken from a value.
fn narrow(format: &str) -> bool {
    let mut digits = 0;
    let narrow = format.bytes().all(|b| {
        digits = if b.is_ascii_digit() { digits + 1 } else { 0 };
        digits < 4
    });
    let nested = format.split('{').skip(1).any(|part| !part.is_empty() && !part.contains('}'));
    narrow && !nested
}

fn strings(parts: &[&str]) -> Value {
    Value::from(parts.iter().map(|p| Value::from(*p)).collect::<Vec<Value>>())
}

/// Python's string methods that minijinja-contrib lacks.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    fn text<'a>(args: &'a [Value], name: &str) -> Result<&'a str, Error> {
        args.first().and_then(|v| v.as_str()).ok_or_else(|| refuse(format!("{name} needs a string")))
    }
    let Some(s) = value.as_str() else {
        return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args);
    };
    Ok(match name {
        "format" if s.contains('{') && !narrow(s) => return Err(refuse("the format string is too wide")),
        "removeprefix" => Value::from(s.strip_prefix(text(args, name)?).unwrap_or(s)),
        "removesuffix" => Value::from(s.strip_suffix(text(args, name)?).unwrap_or(s)),
        "partition" | "rpartition" => {
            let separator = text(args, name)?;
            let found = if name == "partition" { s.split_once(separator) } else { s.rsplit_once(separator) };
            match found {
                Some((a, b)) => strings(&[a, separator, b]),
                None if name == "partition" => strings(&[s, "", ""]),
                None => strings(&["", "", s]),
            }
        }
        "rsplit" if args.len() == 2 => {
            let limit = args[1].as_i64().filter(|n| *n >= 0).ok_or_else(|| refuse("rsplit needs a count"))? as usize;
            let mut parts: Vec<&str> = s.rsplitn(limit.saturating_add(1), text(args, name)?).collect();
            parts.reverse();
            strings(&parts)
        }
        "rsplit" => return minijinja_contrib::pycompat::unknown_method_callback(state, value, "split", args),
        "index" => match s.find(text(args, name)?) {
            Some(at) => Value::from(s[..at].chars().count() as i64),
            None => return Err(refuse("substring not found")),
        },
        _ => return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    })
}

/// `{% generation %}` only marks what an assistant said; it renders its body. Spelled here as a scope of the same length, so
/// that lines and columns stay true.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |e| e + 2);
        let body = &tag[..end];
        match body[2..].trim_end_matches("%}").trim_matches(['-', '+']).trim() {
            "generation" => out.push_str(&body.replacen("generation", "if true   ", 1)),
            "endgeneration" => out.push_str(&body.replacen("endgeneration", "endif        ", 1)),
            _ => out.push_str(body),
        }
        rest = &tag[end..];
    }
    out.push_str(rest);
    out
}

fn environment<'a>(fuel: u64) -> Outcome<Environment<'a>> {
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    env.set_syntax(syntax.map_err(|e| fail(&e))?);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_recursion_limit(RECURSION_LIMIT);
    env.set_fuel(Some(fuel));
    env.set_debug(false);
    env.set_unknown_method_callback(method);
    env.add_filter("tojson", |state: &State, value: &Value, args: Rest<Value>, kwargs: Kwargs| {
        let text = tojson::filter(value, &args, &kwargs)?;
        state.consume_fuel(text.as_str().map_or(0, str::len) as u64 / 64)?;
        Ok::<Value, Error>(text)
    });
    env.add_filter("indent", indent);
    env.remove_filter("pprint");
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", strftime_now);
    Ok(env)
}

/// Line and column of the template where it can be told.
fn fail(error: &Error) -> Fail {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), |d| format!("{}: {d}", error.kind()));
    let raised = error.detail().and_then(|d| d.strip_prefix("raise_exception: "));
    let mut fail = match (raised, error.kind()) {
        (Some(message), _) => Fail::usage("template-refused", format!("the chat template refuses these messages: {message}")),
        (_, ErrorKind::OutOfFuel) => Fail::integrity("template-limit", "the chat template does too much work"),
        (_, ErrorKind::WriteFailure) => Fail::integrity("template-limit", "the chat template writes too much")
            .want(format!("at most {MAX_OUTPUT_BYTES} bytes")),
        (_, ErrorKind::SyntaxError) => Fail::integrity("bad-template", format!("the chat template is malformed: {detail}")),
        _ => Fail::integrity("template-failed", format!("the chat template fails: {detail}")),
    };
    let mut causes = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let _ = write!(causes, "{}{next}", if causes.is_empty() { "" } else { "; " });
        cause = next.source();
    }
    fail = fail.saw(causes);
    let Some(line) = error.line() else { return fail };
    let column = error.range().zip(error.template_source()).and_then(|(range, source)| {
        let start = source.get(..range.start)?.rfind('\n').map_or(0, |at| at + 1);
        Some(source[start..range.start].chars().count() as u64 + 1)
    });
    fail.on(line as u64, column.unwrap_or(1))
}

struct Bounded {
    bytes: Vec<u8>,
}

impl io::Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + part.len() > MAX_OUTPUT_BYTES {
            return Err(io::Error::other("output limit"));
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn bounded_source(source: &str) -> Outcome<String> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(Fail::integrity("bad-template", "the chat template is too long")
            .saw(format!("{} bytes", source.len()))
            .want(format!("at most {MAX_SOURCE_BYTES} bytes")));
    }
    Ok(without_generation_tags(source))
}

pub fn check(source: &str) -> Outcome<()> {
    let source = bounded_source(source)?;
    let env = environment(BASE_FUEL)?;
    env.template_from_named_str(NAME, &source).map(|_| ()).map_err(|e| fail(&e))
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(b) => Value::from(*b),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => Value::from(i),
            (_, Some(u)) => Value::from(u),
            _ => Value::from(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(s) => Value::from(s.as_str()),
        Json::Array(list) => Value::from(list.iter().map(value).collect::<Vec<Value>>()),
        Json::Object(map) => Value::from_pairs(map.iter().map(|(k, v)| (Value::from(k.as_str()), value(v)))),
    }
}

pub fn render_json(source: &str, input: &str) -> Outcome<String> {
    render(source, variables(&strict_json::parse(input)?)?, input.len())
}

/// The fuel bounds what the engine counts; what it does not count (lazy lists, text of shared lists) is bounded by confinement.
pub fn render(source: &str, variables: Json, input_bytes: usize) -> Outcome<String> {
    confined::run(input_bytes, || render_here(source, &variables, input_bytes))
}

fn render_here(source: &str, variables: &Json, input_bytes: usize) -> Outcome<String> {
    let source = bounded_source(source)?;
    let env = environment(BASE_FUEL + input_bytes as u64 / 2)?;
    let template = env.template_from_named_str(NAME, &source).map_err(|e| fail(&e))?;
    let mut out = Bounded { bytes: Vec::new() };
    template.render_captured_to(value(variables), &mut out).map_err(|e| fail(&e))?;
    String::from_utf8(out.bytes).map_err(|_| Fail::integrity("template-failed", "the chat template wrote no UTF-8"))
}

/// The variables as transformers passes them: keys that are null are dropped, reasoning goes under all its names.
pub fn variables(input: &Json) -> Outcome<Json> {
    let messages = input["messages"].as_array();
    let messages = messages.ok_or_else(|| Fail::usage("bad-messages", "the messages are not a list").want("a list of {role, content}"))?;
    if messages.is_empty() {
        return Err(Fail::usage("bad-messages", "there are no messages").want("at least one"));
    }
    let mut list = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        let path = format!("/{i}");
        let fields = message.as_object();
        let fields = fields.ok_or_else(|| Fail::usage("bad-messages", "a message is not an object").at(&path).saw(message.to_string()))?;
        let mut kept: serde_json::Map<String, Json> = serde_json::Map::new();
        let reasoning = ["reasoning_content", "thinking", "reasoning"].iter().find_map(|k| fields.get(*k).filter(|v| !v.is_null()));
        if let Some(text) = reasoning {
            kept.insert("thinking".to_string(), text.clone());
        }
        kept.extend(fields.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())));
        if let Some(text) = reasoning {
            kept.insert("reasoning_content".to_string(), text.clone());
        }
        list.push(Json::Object(kept));
    }
    let mut all = serde_json::Map::new();
    for part in ["named", "extra"] {
        for (name, value) in input[part].as_object().into_iter().flatten() {
            all.insert(name.clone(), value.clone());
        }
    }
    all.insert("messages".to_string(), Json::Array(list));
    for name in ["tools", "documents"] {
        all.insert(name.to_string(), input[name].clone());
    }
    all.insert("add_generation_prompt".to_string(), Json::Bool(input["add_generation_prompt"].as_bool().unwrap_or(false)));
    Ok(Json::Object(all))
}
