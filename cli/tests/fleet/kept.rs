//! What a fleet keeps, as its operator sees it.

use crate::cluster::Cluster;
use crate::raw::Raw;
use cellblock::CellId;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};

/// A connection of the operator.
pub struct Kept(Raw);

/// A record of a cell.
#[derive(Clone, Debug)]
pub struct Record {
    pub state: String,
    /// The client's id of the cell.
    pub client_id: CellId,
    pub object: Option<String>,
}

impl Kept {
    pub fn connect(cluster: &Cluster) -> Self {
        // One for each: others in the account would receive its answers.
        static LAST: AtomicU32 = AtomicU32::new(0);
        let inbox = format!("_INBOX.kept{}", LAST.fetch_add(1, Ordering::Relaxed));
        Self(Raw::connect(cluster, "operator", &inbox))
    }

    fn ask(&mut self, subject: &str, payload: &[u8]) -> Vec<u8> {
        self.0.send(subject, &[], payload);
        self.0.next().unwrap().payload
    }

    fn ask_json(&mut self, subject: &str, payload: &Value) -> Value {
        serde_json::from_slice(&self.ask(subject, payload.to_string().as_bytes())).unwrap()
    }

    /// The newest message of a subject.
    fn newest(&mut self, stream: &str, subject: &str) -> Vec<u8> {
        self.ask(&format!("$JS.API.DIRECT.GET.{stream}.{subject}"), b"")
    }

    /// The records of a tenant's cells that workers of a class have written.
    pub fn records(&mut self, tenant: &str, class: &str) -> Vec<Record> {
        let filter = format!("$KV.cb-cells.{tenant}.>");
        let info =
            self.ask_json("$JS.API.STREAM.INFO.KV_cb-cells", &json!({ "subjects_filter": filter }));
        let subjects = info["state"]["subjects"].as_object().cloned().unwrap_or_default();
        let records = subjects.keys().filter_map(|subject| {
            let payload = self.newest("KV_cb-cells", subject);
            // One that was removed is empty.
            let record: Value = serde_json::from_slice(&payload).ok()?;
            let text = |field: &str| record[field].as_str().map(str::to_owned);
            text("class").filter(|of| of == class)?;
            Some(Record {
                state: text("state")?,
                client_id: CellId::new(text("id")?),
                object: text("object"),
            })
        });
        records.collect()
    }

    /// The subject of an object's one piece.
    fn piece(&mut self, object: &str) -> String {
        use base64::Engine as _;
        let name = base64::prelude::BASE64_URL_SAFE.encode(object);
        let meta = self.newest("OBJ_cb-parked", &format!("$O.cb-parked.M.{name}"));
        let meta: Value = serde_json::from_slice(&meta).unwrap();
        assert_eq!(meta["chunks"], 1);
        format!("$O.cb-parked.C.{}", meta["nuid"].as_str().unwrap())
    }

    /// The bytes of an object.
    pub fn bytes(&mut self, object: &str) -> Vec<u8> {
        let piece = self.piece(object);
        self.newest("OBJ_cb-parked", &piece)
    }

    /// Puts other bytes in an object's place.
    pub fn replace(&mut self, object: &str, bytes: &[u8]) {
        let piece = self.piece(object);
        self.ask(&piece, bytes);
    }

    /// How `JetStream` keeps the bytes of cells.
    pub fn config(&mut self) -> Value {
        self.ask_json("$JS.API.STREAM.INFO.OBJ_cb-parked", &json!({}))["config"].take()
    }

    /// Bytes that `JetStream` has of cells, with their records, on each server.
    pub fn total_bytes(&mut self) -> u64 {
        let streams = ["KV_cb-cells", "OBJ_cb-parked"];
        let bytes = |stream: &str| {
            let info = self.ask_json(&format!("$JS.API.STREAM.INFO.{stream}"), &json!({}));
            info["state"]["bytes"].as_u64().unwrap()
        };
        streams.into_iter().map(bytes).sum()
    }
}
