//! Encoding and decoding: the library's own steps, one after the other, with added tokens cut out by `specials`.

use std::collections::HashSet;

use serde_json::{json, Value};
use tokenizers::{AddedToken, Model, OffsetType, PreTokenizer, Tokenizer};

use crate::check;
use crate::fail::{Fail, Outcome};
use crate::specials::{Added, Allow, Specials};
use crate::strict_json;

const MAX_TEXT_BYTES: usize = 256 << 20;

pub struct Engine {
    library: Tokenizer,
    specials: Specials,
    added_ids: HashSet<u32>,
    unknown_id: Option<u32>,
    clean_up: bool,
}

pub struct Encoded {
    pub ids: Vec<u32>,
    pub tokens: Vec<String>,
    pub offsets: Vec<(usize, usize)>,
}

fn broken(error: impl std::fmt::Display) -> Fail {
    Fail::integrity("bad-tokenizer", format!("{error}"))
}

impl Engine {
    /// `settings`: {"add": [added tokens of the other files], "special": [contents of named tokens], "clean_up": b}.
    /// The post-processor is the file's: add_bos_token and add_eos_token say nothing where there is a tokenizer.json.
    pub fn load(json: &str, settings: &str) -> Outcome<Engine> {
        let root = strict_json::parse(json)?;
        check::tokenizer(&root)?;
        let settings: Value = serde_json::from_str(settings).map_err(broken)?;
        let mut library: Tokenizer = json.parse().map_err(broken)?;
        library.with_truncation(None).map_err(broken)?;
        library.with_padding(None);
        let declared = root["added_tokens"].as_array().cloned().unwrap_or_default();
        for (i, token) in declared.iter().enumerate() {
            let (content, id) = (token["content"].as_str().unwrap_or(""), token["id"].as_u64());
            let given = library.get_added_vocabulary().get_vocab().get(content).map(|id| u64::from(*id));
            if given != id {
                return Err(Fail::integrity("bad-tokenizer", "an added token cannot have the id that the file gives it")
                    .at(format!("/added_tokens/{i}"))
                    .saw(format!("{content:?}: {}", token["id"]))
                    .want(given.map_or("an id after the vocabulary".to_string(), |id| id.to_string())));
            }
        }
        add_tokens(&mut library, &settings)?;
        Engine::assemble(library, &root, settings["clean_up"].as_bool().unwrap_or(false))
    }

    fn assemble(library: Tokenizer, root: &Value, clean_up: bool) -> Outcome<Engine> {
        let mut tokens = Vec::new();
        for (id, token) in library.get_added_vocabulary().get_added_tokens_decoder() {
            tokens.push(Added { id: *id, token: token.clone() });
        }
        let specials = Specials::new(tokens, library.get_normalizer())?;
        let added_ids = specials.tokens.iter().map(|t| t.id).collect();
        let model = &root["model"];
        let unknown_id = model["unk_id"].as_u64().map(|id| id as u32);
        let unknown_id = unknown_id.or_else(|| model["unk_token"].as_str().and_then(|t| library.token_to_id(t)));
        let bpe = matches!(library.get_model(), tokenizers::models::ModelWrapper::BPE(_));
        Ok(Engine { library, specials, added_ids, unknown_id, clean_up: clean_up && !bpe })
    }

    pub fn specials(&self) -> &Specials {
        &self.specials
    }

    pub fn facts(&self) -> String {
        let fact = |t: &Added| json!({"id": t.id, "content": t.token.content, "special": t.token.special});
        let added: Vec<Value> = self.specials.tokens.iter().map(fact).collect();
        json!({"size": self.library.get_vocab_size(true), "added": added}).to_string()
    }

    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.library.token_to_id(token)
    }

    pub fn token_of(&self, id: u32) -> Option<String> {
        let added = self.library.get_added_vocabulary().get_added_tokens_decoder().get(&id).map(|t| t.content.clone());
        added.or_else(|| self.library.get_model().id_to_token(id))
    }

    pub fn encode(&self, text: &str, parse_special: bool, add_special: bool) -> Outcome<Encoded> {
        self.encode_where(text, &|index, _, _| parse_special || !self.specials.tokens[index].token.special, add_special)
    }

    pub fn encode_where(&self, text: &str, allow: Allow, add_special: bool) -> Outcome<Encoded> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Fail::usage("text-too-long", "the text is too long to be tokenized")
                .saw(format!("{} bytes", text.len()))
                .want(format!("at most {MAX_TEXT_BYTES} bytes")));
        }
        let mut pieces = self.specials.extract(self.library.get_normalizer(), text, allow)?;
        if let Some(splitter) = self.library.get_pre_tokenizer() {
            splitter.pre_tokenize(&mut pieces).map_err(broken)?;
        }
        let model = self.library.get_model();
        pieces.tokenize(|piece| model.tokenize(piece.get())).map_err(broken)?;
        let encoding = pieces.into_encoding(None, 0, OffsetType::Byte).map_err(broken)?;
        let encoding = self.library.post_process(encoding, None, add_special).map_err(broken)?;
        Ok(Encoded {
            ids: encoding.get_ids().to_vec(),
            tokens: encoding.get_tokens().to_vec(),
            offsets: encoding.get_offsets().to_vec(),
        })
    }

    /// Ids of added tokens that `encoded` has although no added token was allowed there: the model made them of plain text.
    pub fn made_by_model(&self, id: u32) -> bool {
        self.added_ids.contains(&id) && self.unknown_id != Some(id)
    }

    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Outcome<String> {
        let known = |id: u32| {
            self.added_ids.contains(&id) || self.library.get_model().id_to_token(id).is_some()
        };
        if let Some(id) = ids.iter().find(|id| !known(**id)) {
            return Err(Fail::usage("unknown-token-id", "the tokenizer has no such token")
                .saw(id.to_string())
                .want(format!("an id of the vocabulary ({} tokens)", self.library.get_vocab_size(true))));
        }
        let text = self.library.decode(ids, skip_special).map_err(broken)?;
        Ok(if self.clean_up { clean_up(&text) } else { text })
    }
}

/// What transformers calls clean_up_tokenization; never applied to byte-pair models.
fn clean_up(text: &str) -> String {
    let rules = [
        (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
        (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
    ];
    rules.iter().fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}

fn add_tokens(library: &mut Tokenizer, settings: &Value) -> Outcome<()> {
    let mut tokens = Vec::new();
    for entry in settings["add"].as_array().into_iter().flatten() {
        let flag = |name: &str, or: bool| entry[name].as_bool().unwrap_or(or);
        let special = flag("special", false);
        let content = entry["content"].as_str().unwrap_or("");
        tokens.push(
            AddedToken::from(content, special)
                .lstrip(flag("lstrip", false))
                .rstrip(flag("rstrip", false))
                .single_word(flag("single_word", false))
                .normalized(flag("normalized", !special)),
        );
    }
    if !tokens.is_empty() {
        library.add_tokens(tokens).map_err(broken)?;
    }
    let mut specials = Vec::new();
    for content in settings["special"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let added = library.get_added_vocabulary();
        let id = added.get_vocab().get(content);
        let known = id.and_then(|id| added.get_added_tokens_decoder().get(id)).cloned();
        let mut token = known.unwrap_or_else(|| AddedToken::from(content, true));
        token.special = true;
        specials.push(token);
    }
    if !specials.is_empty() {
        library.add_special_tokens(specials).map_err(broken)?;
    }
    Ok(())
}
