//! Parked cells that somebody has made up: nothing read from one is trusted.

use super::super::{Engine, EngineConfig, WasmBackend};
use super::seal;
use super::{Head, Image, Opened, Packed, ParkKey, Parking};
use crate::backend::{
    CodeModeBackend, CodeModeNestedToolCall, CodeModeTurnHost, ExecuteRequest, ParkError,
    ParkedCell, RuntimeResponse, ToolResult, WakeRequest,
};
use crate::limits::{CellLimits, SessionLimits};
use crate::stored::StoredValues;
use crate::tools::ToolDefinition;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The same numbers each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// A host whose calls never end.
struct Never;

#[async_trait::async_trait]
impl CodeModeTurnHost for Never {
    async fn invoke_tool(
        &self,
        _call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        cancellation.cancelled().await;
        Err("cancelled".to_owned())
    }
}

fn limits() -> SessionLimits {
    let cell = CellLimits {
        fuel: 200_000_000,
        running_time: Duration::from_secs(2),
        total_time: Duration::from_secs(20),
        memory_bytes: 16 << 20,
        cancel_grace: Duration::from_millis(10),
        ..CellLimits::default()
    };
    SessionLimits { cell, ..SessionLimits::default() }
}

fn backend() -> (WasmBackend, Parking) {
    let config = EngineConfig { max_cells: 4, ..EngineConfig::default() };
    let backend = WasmBackend::with_limits(&Engine::new(&config).unwrap(), limits());
    let parking = Parking::new(&ParkKey::new([1; 32]));
    backend.set_parking(parking.clone());
    (backend, parking)
}

async fn parked(backend: &WasmBackend, source: &str) -> ParkedCell {
    let id = backend.allocate_cell_id().unwrap();
    let request = ExecuteRequest {
        enabled_tools: [ToolDefinition::function("a", "A"), ToolDefinition::function("b", "B")]
            .into(),
        yield_time_ms: Some(1),
        ..ExecuteRequest::new(source)
    };
    backend.execute(id.clone(), request, StoredValues::new()).await.unwrap();
    backend.park(id).await.unwrap().cell
}

const PROGRAM: &str = "
    const all = []; for (let i = 0; i < 200; i++) all.push({ i, text: 'x'.repeat(i % 50) });
    store('k', all.length); text('before');
    const timer = new Promise((resolve) => setTimeout(resolve, 5));
    await Promise.all([tools.a({ n: 1 }), tools.b('x'), timer]);
    text(all.map((each) => each.text.length).join()); text(JSON.stringify(load('k')));";

fn opened(parking: &Parking, engine: &Engine, cell: &ParkedCell) -> Opened {
    parking.open(cell, engine.dictionary(), &limits()).unwrap()
}

fn sealed(parking: &Parking, whole: &Opened, engine: &Engine) -> ParkedCell {
    let packed = Packed::of(&whole.image, engine.dictionary());
    parking.seal(&"1".into(), &whole.head, &packed, engine.dictionary().hash()).unwrap()
}

#[tokio::test]
async fn bytes_that_were_changed_or_cut_are_refused() {
    let (backend, parking) = backend();
    let engine = backend.session.engine.clone();
    let cell = parked(&backend, PROGRAM).await;
    let encrypting = Parking::new(&ParkKey::encrypting([1; 32]));
    let encrypted = sealed(&encrypting, &opened(&parking, &engine, &cell), &engine);
    let open = |bytes: &[u8]| {
        let cell = ParkedCell::from_bytes(bytes)?;
        parking.open(&cell, engine.dictionary(), &limits()).map(drop)
    };
    for cell in [cell, encrypted] {
        let bytes = cell.as_bytes();
        assert_eq!(open(bytes), Ok(()));
        let mut numbers = Numbers(7);
        for _ in 0..2_000 {
            let mut changed = bytes.to_vec();
            let at = numbers.next(changed.len());
            changed[at] ^= 1 << numbers.next(8);
            let error = open(&changed).unwrap_err();
            let expected = match at {
                0..8 => ParkError::NotParked,
                8..10 => ParkError::Version { found: u16::from_le_bytes([changed[8], changed[9]]) },
                12..20 => ParkError::OtherKey,
                _ => ParkError::Damaged,
            };
            assert_eq!(error, expected, "byte {at}");
        }
        for _ in 0..500 {
            assert!(open(&bytes[..numbers.next(bytes.len())]).is_err());
        }
    }
}

#[tokio::test]
async fn a_parked_cell_is_for_one_guest_and_for_those_who_have_the_key() {
    let (backend, parking) = backend();
    let engine = backend.session.engine.clone();
    let whole = opened(&parking, &engine, &parked(&backend, PROGRAM).await);
    let other = Parking::new(&ParkKey::new([2; 32]));
    let cell = sealed(&other, &whole, &engine);
    let error = parking.open(&cell, engine.dictionary(), &limits()).unwrap_err();
    assert_eq!(error, ParkError::OtherKey);
    let packed = Packed::of(&whole.image, engine.dictionary());
    let cell = parking.seal(&"1".into(), &whole.head, &packed, &[0; 32]).unwrap();
    let error = parking.open(&cell, engine.dictionary(), &limits()).unwrap_err();
    assert_eq!(error, ParkError::OtherGuest);
    let small = parking.clone().limited_to(1_000);
    assert!(matches!(
        small.seal(&"1".into(), &whole.head, &packed, engine.dictionary().hash()),
        Err(ParkError::TooLarge { limit: 1_000, .. })
    ));
    // What the program knows cannot be read where there is a key for that.
    let secret = Parking::new(&ParkKey::encrypting([1; 32]));
    let cell = sealed(&secret, &whole, &engine);
    let plain = sealed(&parking, &whole, &engine);
    let shows = |cell: &ParkedCell| cell.as_bytes().windows(8).any(|each| each == b"monotoni");
    assert!(shows(&plain) && !shows(&cell));
}

/// Heads that no cell can have, or that ask for more than the session grants.
#[tokio::test]
async fn heads_are_checked_field_by_field() {
    let (backend, parking) = backend();
    let engine = backend.session.engine.clone();
    let cell = parked(&backend, PROGRAM).await;
    let refused = |change: &dyn Fn(&mut Head)| {
        let mut whole = opened(&parking, &engine, &cell);
        change(&mut whole.head);
        let cell = sealed(&parking, &whole, &engine);
        parking.open(&cell, engine.dictionary(), &limits()).unwrap_err()
    };
    for (limit, error) in [
        refused(&|head| head.limits.fuel += 1),
        refused(&|head| head.limits.memory_bytes += 1),
        refused(&|head| head.limits.calls += 1),
        refused(&|head| head.limits.host_bytes = Some(usize::MAX)),
        refused(&|head| head.limits.total_time += Duration::from_millis(1)),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(matches!(error, ParkError::OverLimits(_)), "{limit}: {error:?}");
    }
    let changes: [&dyn Fn(&mut Head); 17] = [
        &|head| head.limits.host_bytes = None,
        &|head| head.limits.stack_bytes = 0,
        &|head| head.fuel = u64::MAX,
        &|head| head.running_time = u64::MAX,
        &|head| head.time_left = u64::MAX,
        &|head| head.spent.calls = 1,
        &|head| head.spent.calls = usize::MAX,
        &|head| head.spent.output_bytes = usize::MAX,
        &|head| head.spent.output_items = usize::MAX,
        &|head| head.pending[0].id = head.pending[1].id,
        &|head| head.pending[0].id = 0,
        &|head| head.pending[0].id = u64::MAX,
        &|head| head.pending[0].tool = 2,
        &|head| head.events.push(super::ParkedEvent::Failed(1, String::new())),
        &|head| head.calls_since_frontier.push(3),
        &|head| head.value_key = "x".repeat(2_000),
        &|head| head.tool_call_id = "x".repeat(2_000),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert_eq!(refused(change), ParkError::Damaged, "{number}");
    }
    let stored = refused(&|head| {
        head.stored.insert("k".to_owned(), "1".repeat(limits().stored_bytes).into());
    });
    assert!(matches!(stored, ParkError::OverLimits(_)), "{stored:?}");
}

/// Payloads that were authenticated and say anything.
#[tokio::test]
async fn damaged_payloads_are_refused_or_read() {
    let (backend, _) = backend();
    let engine = backend.session.engine.clone();
    let cell = parked(&backend, PROGRAM).await;
    let bytes = cell.as_bytes();
    let payload = &bytes[seal::PAYLOAD..bytes.len() - 32];
    let mut numbers = Numbers(11);
    let mut read = 0;
    for round in 0..30_000 {
        let mut payload = payload.to_vec();
        for _ in 0..=numbers.next(3) {
            let at = numbers.next(payload.len());
            payload[at] = u8::try_from(numbers.next(256)).unwrap();
        }
        if round % 10 == 0 {
            payload.truncate(numbers.next(payload.len()));
        }
        if round % 16 == 1 {
            payload[..4]
                .copy_from_slice(&u32::try_from(numbers.next(1 << 32)).unwrap().to_le_bytes());
        }
        if let Ok((head, _)) = seal::read(&payload, engine.dictionary(), 64 << 20) {
            read += usize::from(head.check(&limits()).is_ok());
        }
    }
    assert!(read > 0, "none was read, so little was tried");
    // A length that is much more than the block can grow to takes no memory.
    let bomb = [&u32::MAX.to_le_bytes()[..], &50_u32.to_le_bytes(), &[0; 100]].concat();
    assert!(matches!(seal::read(&bomb, engine.dictionary(), usize::MAX), Err(ParkError::Damaged)));
}

/// Images that were authenticated and say anything end their own cell at worst.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_images_end_their_cell_at_worst() {
    let (backend, parking) = backend();
    let engine = backend.session.engine.clone();
    let _worker = backend.start_turn_worker(Arc::new(Never));
    let cell = parked(&backend, PROGRAM).await;
    let mut numbers = Numbers(23);
    let (mut refused, mut failed, mut on) = (0, 0, 0);
    for round in 0..400 {
        let Opened { name, head, image } = opened(&parking, &engine, &cell);
        let mut runs = image.runs.clone();
        for _ in 0..=numbers.next(40) {
            let at = numbers.next(runs.len());
            runs[at] ^= 1 << numbers.next(8);
        }
        let pages = if round % 7 == 0 {
            u32::try_from(numbers.next(1 << 16)).unwrap()
        } else {
            image.pages
        };
        // Not checked here: the session checks it.
        let image = Image { pages, runs };
        let cell = sealed(&parking, &Opened { name, head, image }, &engine);
        let mut request = WakeRequest { yield_time_ms: Some(50), ..WakeRequest::new(cell) };
        request.calls.insert("tool-1", Ok(serde_json::json!(1).into()));
        request.calls.insert("tool-2", Ok(serde_json::json!({ "a": [1, 2] }).into()));
        let id = backend.allocate_cell_id().unwrap();
        match backend.wake(id.clone(), request, StoredValues::new()).await {
            Err(_) => refused += 1,
            Ok(RuntimeResponse::Result { error_text: Some(_), .. }) => failed += 1,
            Ok(RuntimeResponse::Yielded { .. }) => {
                on += 1;
                backend.terminate(id).await.unwrap();
            }
            Ok(_) => on += 1,
        }
    }
    assert!(refused > 0 && failed > 0 && on > 0, "{refused} {failed} {on}");
    // The session is as it was.
    let mut request = WakeRequest::new(cell);
    request.calls.insert("tool-1", Ok(serde_json::json!(1).into()));
    request.calls.insert("tool-2", Ok(serde_json::json!(2).into()));
    let id = backend.allocate_cell_id().unwrap();
    let response = backend.wake(id, request, StoredValues::new()).await.unwrap();
    let RuntimeResponse::Result { error_text: None, content_items, .. } = response else {
        panic!("{response:?}")
    };
    assert_eq!(content_items.len(), 2);
}
