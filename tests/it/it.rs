//! Integration tests in one binary: stories through the real CLI, simulation, golden vectors.
//!
//! A story runs in a [`world`] of its own: a temporary folder, a server process and the real `pmx`.
//! [`tidy`] fails if this file does not declare a file beside it.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it saw on its own output"
)]
#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::needless_pass_by_value,
    clippy::too_many_lines,
    clippy::unnecessary_wraps,
    reason = "a story is one function in plain words, fast enough for its few files"
)]

mod abandoned_collection;
mod access_log;
mod alarms;
mod backup;
mod bench;
mod big;
mod bounds;
mod caches;
mod chains;
mod circles;
mod client;
mod collecting;
mod conformance;
mod content;
mod conversation;
mod costs;
mod damage;
mod deleted_spaces;
mod delta_packs;
mod dependencies;
mod deployed;
mod dictionary_responses;
mod disconnected_readers;
mod disk;
mod doctor;
mod domains;
mod environment;
mod fan_out;
mod first_publish;
mod forged_nodes;
mod golden;
mod hosting;
mod hosts;
mod http2;
mod https;
mod intermediaries;
mod interrupts;
mod json_publish;
mod kill;
mod large_sections;
mod lifecycle_costs;
mod live;
mod local;
mod namespaces;
mod objects;
mod operating;
mod output;
mod pages;
mod pathmx;
mod platform_faults;
mod previews;
mod prices;
mod project;
mod proxies;
mod publish;
mod pull;
mod put;
mod recreated_spaces;
mod refused;
mod registry;
mod repair;
mod replacing;
mod retired_words;
mod routes;
mod schema;
mod scripted_servers;
mod serving;
mod sim;
mod sites;
mod slow_clients;
mod stored_names;
mod stream_access;
mod stream_bodies;
mod stream_offsets;
mod stream_schema;
mod stream_subscriptions;
mod streaming;
mod tidy;
mod tls;
mod trust;
mod unkind;
mod validation;
mod verifying;
mod watching;
mod webhooks;
mod whole_append;
mod world;
