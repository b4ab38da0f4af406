//! Training: from a configuration to a model's folder.
//!
//! [`loss`] is the sigmoid loss with its gradients; [`step`] takes a batch of pairs through both towers and back,
//! [`head`] one of labelled pictures through the vision tower;
//! [`optimizer`] and [`schedule`] move the weights; [`run`] is the loop, [`data`] what it draws, [`validate`] what it
//! measures, [`state`] what it needs to go on; [`init`] makes what it starts from and [`export`] what it ends in.

pub mod config;
pub mod loss;
pub mod step;
pub mod optimizer;
pub mod lora;
pub mod truth;
pub mod head;
mod objective;
pub mod schedule;
pub mod warm_start;
pub mod auxiliary;
pub mod init;
pub mod data;
pub mod validate;
pub mod state;
mod start;
pub mod run;
pub mod dry_run;
pub mod card;
pub mod export;
