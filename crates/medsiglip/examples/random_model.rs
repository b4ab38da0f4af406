//! Makes a model to train from nothing: a tokenizer trained on captions, one a line, and random weights.
//!
//! ```text
//! cargo run --features train --example random_model -- captions.txt FOLDER < texts.txt
//! ```
//!
//! Prints the ids of each line of standard input by `hf-slow`, as `scripts/compare_trained_tokenizer.py` compares them.

use std::io::{BufRead, stdin};
use std::path::Path;

use medsiglip::config::{TextConfig, VisionConfig};
use medsiglip::tokenizer::{Canonicalizer, Tokenizer, TokenizerOptions, TrainedTokenizer};
use medsiglip::train::export::create_model_folder;
use medsiglip::train::init::Init;
use medsiglip::{Config, Result};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [captions, folder] = arguments.as_slice() else {
        return Err("expected a file of captions and a folder".into());
    };
    let captions = std::fs::read_to_string(captions)?;
    let folder = Path::new(folder);
    let length = 32;
    let options = TokenizerOptions {
        vocab_size: 1024,
        length,
    };
    let tokenizer = TrainedTokenizer::train(captions.lines(), &options)?;
    let of_tokenizer = folder.with_extension("tokenizer");
    tokenizer.write(&of_tokenizer)?;
    let config = config(tokenizer.vocab_size(), length);
    create_model_folder(folder, &config, &Init::default(), &of_tokenizer)?;
    let tokenizer = Tokenizer::from_folder(folder, length, tokenizer.vocab_size())?;
    let ids = |text: std::io::Result<String>| -> Result<Vec<u32>> {
        let text = text.unwrap_or_default();
        Ok(tokenizer.encode(&text, Canonicalizer::HfSlow)?.ids)
    };
    for text in stdin().lock().lines() {
        println!("{:?}", ids(text)?);
    }
    Ok(())
}

/// A small model.
fn config(vocab_size: usize, max_position_embeddings: usize) -> Config {
    Config {
        vision: VisionConfig {
            hidden_size: 192,
            intermediate_size: 768,
            num_hidden_layers: 4,
            num_attention_heads: 3,
            num_channels: 3,
            image_size: 224,
            patch_size: 16,
            layer_norm_eps: 1e-6,
            use_head: true,
        },
        text: Some(TextConfig {
            hidden_size: 128,
            intermediate_size: 512,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            vocab_size,
            max_position_embeddings,
            layer_norm_eps: 1e-6,
            projection_size: 192,
        }),
        classes: None,
    }
}
