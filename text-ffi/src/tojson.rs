//! json.dumps and str() as Python writes them: what the templates of checkpoints were written against.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use std::fmt::Write;

const MAX_BYTES: usize = 8 << 20;
const MAX_DEPTH: usize = 100;

pub struct Style {
    pub ascii: bool,
    pub sort: bool,
    pub indent: Option<String>,
    pub item: String,
    pub key: String,
}

fn refuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// The filter: tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False).
pub fn filter(value: &Value, positional: &[Value], kwargs: &Kwargs) -> Result<Value, Error> {
    let named = |index: usize, name: &str| -> Result<Option<Value>, Error> {
        let given: Option<Value> = kwargs.get(name)?;
        Ok(positional.get(index).cloned().or(given).filter(|v| !v.is_none()))
    };
    let ascii = named(0, "ensure_ascii")?.is_some_and(|v| v.is_true());
    let indent = match named(1, "indent")? {
        None => None,
        Some(v) if v.as_str().is_some() => Some(v.as_str().unwrap_or("").to_string()),
        Some(v) => {
            let width = v.as_i64().ok_or_else(|| refuse("indent must be a number or a string"))?;
            if width > 64 {
                return Err(refuse("indent is wider than 64"));
            }
            Some(" ".repeat(width.max(0) as usize))
        }
    };
    if indent.as_ref().is_some_and(|i| i.len() > 64) {
        return Err(refuse("indent is wider than 64"));
    }
    let mut item = if indent.is_some() { "," } else { ", " }.to_string();
    let mut key = ": ".to_string();
    if let Some(pair) = named(2, "separators")? {
        let texts: Vec<Value> = pair.try_iter()?.collect();
        let [first, second] = texts.as_slice() else { return Err(refuse("separators must be a pair")) };
        item = first.as_str().ok_or_else(|| refuse("separators must be strings"))?.to_string();
        key = second.as_str().ok_or_else(|| refuse("separators must be strings"))?.to_string();
        if item.len() + key.len() > 64 {
            return Err(refuse("separators are longer than 64 bytes"));
        }
    }
    let sort = named(3, "sort_keys")?.is_some_and(|v| v.is_true());
    kwargs.assert_all_used()?;
    let style = Style { ascii, sort, indent, item, key };
    let mut out = String::new();
    dump(value, &style, 0, &mut out)?;
    Ok(Value::from(out))
}

fn new_line(style: &Style, depth: usize, out: &mut String) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        for _ in 0..depth {
            out.push_str(indent);
        }
    }
}

fn dump(value: &Value, style: &Style, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > MAX_DEPTH || out.len() > MAX_BYTES {
        return Err(refuse("the value is too deep or too large for tojson"));
    }
    match value.kind() {
        ValueKind::Undefined => return Err(refuse("an undefined value has no JSON")),
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => quote(value.as_str().unwrap_or(""), style.ascii, out),
        ValueKind::Seq => {
            let mut first = true;
            out.push('[');
            for entry in value.try_iter()? {
                if !first {
                    out.push_str(&style.item);
                }
                first = false;
                new_line(style, depth + 1, out);
                dump(&entry, style, depth + 1, out)?;
            }
            if !first {
                new_line(style, depth, out);
            }
            out.push(']');
        }
        ValueKind::Map => dump_map(value, style, depth, out)?,
        other => return Err(refuse(format!("a value of kind {other} has no JSON"))),
    }
    Ok(())
}

fn dump_map(value: &Value, style: &Style, depth: usize, out: &mut String) -> Result<(), Error> {
    let mut keys: Vec<Value> = value.try_iter()?.collect();
    if style.sort {
        keys.sort();
    }
    out.push('{');
    for (i, key) in keys.iter().enumerate() {
        if i > 0 {
            out.push_str(&style.item);
        }
        new_line(style, depth + 1, out);
        let name = match key.kind() {
            ValueKind::String => key.as_str().unwrap_or("").to_string(),
            ValueKind::None => "null".to_string(),
            ValueKind::Bool => key.is_true().to_string(),
            ValueKind::Number => number(key),
            other => return Err(refuse(format!("a key of kind {other} has no JSON"))),
        };
        quote(&name, style.ascii, out);
        out.push_str(&style.key);
        dump(&value.get_item(key)?, style, depth + 1, out)?;
    }
    if !keys.is_empty() {
        new_line(style, depth, out);
    }
    out.push('}');
    Ok(())
}

fn quote(text: &str, ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c if ascii && !c.is_ascii() => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

/// repr() of a Python float: shortest digits, an exponent outside 1e-4 … 1e16.
pub fn float(x: f64) -> String {
    if x.is_nan() {
        return "NaN".to_string();
    }
    if x.is_infinite() {
        return if x > 0.0 { "Infinity" } else { "-Infinity" }.to_string();
    }
    let magnitude = x.abs();
    if x == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return format!("{x:?}");
    }
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    format!("{digits}e{sign}{exponent:0>2}")
}
