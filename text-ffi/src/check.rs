//! What a tokenizer.json must be before the library may see it: sizes, ids and growth bounded, nothing that is random,
//! nothing that the library would answer with a panic, an endless loop or a silent renumbering.

use serde_json::Value;
use std::collections::{HashMap, HashSet};

use crate::fail::{Fail, Outcome};

const MAX_ID: u64 = 1 << 24;
const MAX_TOKEN_BYTES: usize = 64 << 10;
const MAX_STEPS: usize = 256;
const MAX_GROWTH_LOG2: f64 = 12.0;
const MAX_PATTERN_BYTES: usize = 16 << 10;

fn bad(path: &str, message: &str) -> Fail {
    Fail::integrity("bad-tokenizer", message).at(path)
}

fn id_at(value: &Value, path: &str) -> Outcome<u64> {
    match value.as_u64() {
        Some(id) if id < MAX_ID => Ok(id),
        _ => Err(bad(path, "a token id is out of range")
            .saw(value.to_string())
            .want(format!("an integer from 0 to {}", MAX_ID - 1))),
    }
}

fn token_at<'a>(value: &'a Value, path: &str) -> Outcome<&'a str> {
    let text = value.as_str().ok_or_else(|| bad(path, "a token is not a string").saw(value.to_string()))?;
    if text.len() > MAX_TOKEN_BYTES {
        return Err(bad(path, "a token is too long")
            .saw(format!("{} bytes", text.len()))
            .want(format!("at most {MAX_TOKEN_BYTES} bytes")));
    }
    Ok(text)
}

/// ids of the model's vocabulary; refuses what is out of range or used twice.
fn vocabulary(model: &Value) -> Outcome<HashMap<&str, u64>> {
    let mut by_token = HashMap::new();
    let mut used = HashSet::new();
    match model.get("vocab") {
        Some(Value::Object(map)) => {
            for (token, id) in map {
                let id = id_at(id, "/model/vocab")?;
                if token.len() > MAX_TOKEN_BYTES {
                    return Err(bad("/model/vocab", "a token is too long").saw(format!("{} bytes", token.len())));
                }
                if !used.insert(id) {
                    return Err(bad("/model/vocab", "two tokens share an id").saw(format!("{token:?}: {id}")));
                }
                by_token.insert(token.as_str(), id);
            }
        }
        Some(Value::Array(list)) => {
            for (id, pair) in list.iter().enumerate() {
                let path = format!("/model/vocab/{id}");
                let entry = pair.as_array().filter(|p| p.len() == 2);
                let entry = entry.ok_or_else(|| bad(&path, "not a pair of token and score").saw(pair.to_string()))?;
                let token = token_at(&entry[0], &path)?;
                if !entry[1].is_number() {
                    return Err(bad(&path, "a score is not a number").saw(entry[1].to_string()));
                }
                by_token.insert(token, id as u64);
            }
        }
        _ => return Err(bad("/model/vocab", "the vocabulary is missing").want("an object or a list of pairs")),
    }
    Ok(by_token)
}

fn model(root: &Value) -> Outcome<HashMap<&str, u64>> {
    let model = root.get("model").filter(|m| m.is_object());
    let model = model.ok_or_else(|| bad("/model", "the model is missing").want("an object"))?;
    if let Some(kind) = model.get("type") {
        let known = ["BPE", "Unigram", "WordPiece", "WordLevel"];
        if !kind.as_str().is_some_and(|k| known.contains(&k)) {
            return Err(bad("/model/type", "unknown model type").saw(kind.to_string()).want(known.join(", ")));
        }
    }
    if model.get("dropout").and_then(Value::as_f64).is_some_and(|d| d != 0.0) {
        return Err(Fail::unsupported("random-tokenizer", "the tokenizer drops merges at random")
            .at("/model/dropout")
            .saw(model["dropout"].to_string())
            .want("null"));
    }
    if let Some(merges) = model.get("merges").and_then(Value::as_array) {
        for (i, merge) in merges.iter().enumerate() {
            let good = match merge {
                Value::String(s) => s.split(' ').count() == 2 && s.len() <= MAX_TOKEN_BYTES,
                Value::Array(p) => p.len() == 2 && p.iter().all(|t| t.as_str().is_some_and(|s| s.len() <= MAX_TOKEN_BYTES)),
                _ => false,
            };
            if !good {
                return Err(bad(&format!("/model/merges/{i}"), "not a merge of two tokens").saw(merge.to_string()));
            }
        }
    }
    let vocab = vocabulary(model)?;
    if let Some(unk) = model.get("unk_id").and_then(Value::as_u64) {
        if unk >= vocab.len() as u64 {
            return Err(bad("/model/unk_id", "the unknown token is outside the vocabulary").saw(unk.to_string()));
        }
    }
    Ok(vocab)
}

fn added_tokens(root: &Value, vocab: &HashMap<&str, u64>) -> Outcome<u64> {
    let mut ids = HashSet::new();
    let mut contents = HashSet::new();
    let by_id: HashMap<u64, &str> = vocab.iter().map(|(token, id)| (*id, *token)).collect();
    let mut top = vocab.values().copied().max().map_or(0, |id| id + 1);
    let list = match root.get("added_tokens") {
        None | Some(Value::Null) => return Ok(top),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(bad("/added_tokens", "not a list").saw(other.to_string())),
    };
    for (i, entry) in list.iter().enumerate() {
        let path = format!("/added_tokens/{i}");
        let id = id_at(entry.get("id").unwrap_or(&Value::Null), &path)?;
        let content = token_at(entry.get("content").unwrap_or(&Value::Null), &path)?;
        if content.is_empty() {
            return Err(bad(&path, "an added token is empty"));
        }
        if !ids.insert(id) || !contents.insert(content) {
            return Err(bad(&path, "an added token is there twice").saw(format!("{content:?}: {id}")));
        }
        if let Some(other) = by_id.get(&id).filter(|t| **t != content) {
            return Err(bad(&path, "an added token takes another token's id")
                .saw(format!("{content:?}: {id}"))
                .want(format!("{other:?}, or an id that is free")));
        }
        top = top.max(id + 1);
    }
    Ok(top)
}

struct Walk {
    steps: usize,
    growth_log2: f64,
}

impl Walk {
    fn step(&mut self, value: &Value, path: &str) -> Outcome<()> {
        match value {
            Value::Array(list) => {
                for (i, item) in list.iter().enumerate() {
                    self.step(item, &format!("{path}/{i}"))?;
                }
            }
            Value::Object(map) => {
                if let Some(kind) = map.get("type").and_then(Value::as_str) {
                    self.steps += 1;
                    if self.steps > MAX_STEPS {
                        return Err(bad(path, "too many processing steps").want(format!("at most {MAX_STEPS}")));
                    }
                    self.typed(kind, value, path)?;
                }
                for (key, item) in map {
                    self.step(item, &format!("{path}/{key}"))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn typed(&mut self, kind: &str, value: &Value, path: &str) -> Outcome<()> {
        match kind {
            "FixedLength" => {
                if value.get("length").and_then(Value::as_u64).is_none_or(|n| n == 0) {
                    return Err(bad(path, "a fixed length must be at least 1")
                        .saw(value.get("length").unwrap_or(&Value::Null).to_string()));
                }
            }
            "Replace" => {
                let from = pattern(value, path)?;
                let to = value.get("content").and_then(Value::as_str).unwrap_or("");
                self.grow(to.len() as f64 / from.max(1) as f64, path)?;
            }
            "Split" => {
                pattern(value, path)?;
            }
            "Prepend" => {
                let text = value.get("prepend").and_then(Value::as_str).unwrap_or("");
                if text.is_empty() || text.len() > 256 {
                    return Err(bad(path, "what is prepended must have 1 to 256 bytes").saw(format!("{} bytes", text.len())));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn grow(&mut self, factor: f64, path: &str) -> Outcome<()> {
        self.growth_log2 += factor.max(1.0).log2();
        if self.growth_log2 > MAX_GROWTH_LOG2 {
            return Err(bad(path, "the replacements may grow a text beyond all bounds")
                .want(format!("a growth of at most {} times", MAX_GROWTH_LOG2.exp2())));
        }
        Ok(())
    }
}

/// Bytes of the shortest match that the pattern promises (1 for a regex).
fn pattern(value: &Value, path: &str) -> Outcome<usize> {
    let pattern = value.get("pattern").and_then(Value::as_object);
    let pattern = pattern.ok_or_else(|| bad(path, "the pattern is missing").want("{\"String\": …} or {\"Regex\": …}"))?;
    for (key, text) in pattern {
        let text = text.as_str().ok_or_else(|| bad(path, "a pattern is not a string").saw(text.to_string()))?;
        if text.len() > MAX_PATTERN_BYTES || text.is_empty() {
            return Err(bad(path, "a pattern is empty or too long")
                .saw(format!("{} bytes", text.len()))
                .want(format!("1 to {MAX_PATTERN_BYTES} bytes")));
        }
        if key == "String" {
            return Ok(text.len());
        }
    }
    Ok(1)
}

fn post_processor(value: &Value, top: u64, path: &str) -> Outcome<()> {
    if let Some(tokens) = value.get("special_tokens").and_then(Value::as_object) {
        for (name, token) in tokens {
            for id in token.get("ids").and_then(Value::as_array).into_iter().flatten() {
                if id_at(id, path)? >= top {
                    return Err(bad(path, "the template names a token id outside the vocabulary")
                        .saw(format!("{name:?}: {id}"))
                        .want(format!("below {top}")));
                }
            }
        }
    }
    for piece in ["single", "pair"].iter().filter_map(|k| value.get(k).and_then(Value::as_array)).flatten() {
        let name = piece.get("SpecialToken").and_then(|t| t.get("id")).and_then(Value::as_str);
        if name.is_some_and(|n| value.get("special_tokens").and_then(|t| t.get(n)).is_none()) {
            return Err(bad(path, "the template names a token that it does not define").saw(name.unwrap_or("")));
        }
    }
    for key in ["sep", "cls"] {
        if let Some(pair) = value.get(key).and_then(Value::as_array) {
            if pair.len() == 2 && id_at(&pair[1], path)? >= top {
                return Err(bad(path, "a token id is outside the vocabulary").saw(pair[1].to_string()));
            }
        }
    }
    for (i, inner) in value.get("processors").and_then(Value::as_array).into_iter().flatten().enumerate() {
        post_processor(inner, top, &format!("{path}/processors/{i}"))?;
    }
    Ok(())
}

/// Truncation and padding are never applied here (as transformers does not by default), yet they must make sense.
fn truncation(root: &Value) -> Outcome<()> {
    let Some(block) = root.get("truncation").filter(|t| !t.is_null()) else { return Ok(()) };
    let length = block.get("max_length").and_then(Value::as_u64);
    let stride = block.get("stride").and_then(Value::as_u64);
    match (length, stride) {
        (Some(length), Some(stride)) if length > 0 && stride < length => Ok(()),
        _ => Err(bad("/truncation", "the truncation contradicts itself")
            .saw(block.to_string())
            .want("a stride below max_length, both whole numbers")),
    }
}

pub fn tokenizer(root: &Value) -> Outcome<()> {
    if !root.is_object() {
        return Err(bad("", "not a tokenizer").saw(root.to_string()).want("an object"));
    }
    let vocab = model(root)?;
    let top = added_tokens(root, &vocab)?;
    if top == 0 {
        return Err(bad("/model/vocab", "the vocabulary is empty"));
    }
    let mut walk = Walk { steps: 0, growth_log2: 0.0 };
    for part in ["normalizer", "pre_tokenizer", "decoder", "post_processor"] {
        if let Some(value) = root.get(part) {
            walk.step(value, &format!("/{part}"))?;
        }
    }
    if let Some(value) = root.get("post_processor") {
        post_processor(value, top, "/post_processor")?;
    }
    truncation(root)
}
