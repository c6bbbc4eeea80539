//! The life of the program: start, deliver events, notice its end.
//!
//! The cell ends when the promise of its main module settles, when it must stop,
//! or when a timer callback throws. After every event the engine's jobs are
//! drained before the end is looked for, so what was already queued still runs.

use crate::bindings::cellblock::code_mode::types::{
    Event, ExecuteRequest, Finished, Limit, LimitHit, Outcome, ProgramValue, Step, ValueRequest,
};
use crate::calls;
use crate::engine::{self, Thrown};
use crate::error_text::exception_text;
use crate::globals;
use crate::hint;
use crate::intl;
use crate::state::{self, Stop};
use crate::value;
use crate::wasi;
use rquickjs::promise::PromiseState;
use rquickjs::{Context, Ctx, Persistent, Promise, Runtime, Type, Value};
use std::cell::RefCell;

struct Program {
    runtime: Runtime,
    context: Context,
    /// Of the main module; then of the program's value, if that is waited for.
    main: Option<Persistent<Promise<'static>>>,
    /// What the host wants of the program's value, until that is known.
    value: Option<ValueRequest>,
    /// Whether `main` is the promise of the program's value.
    is_value: bool,
}

thread_local! {
    static PROGRAM: RefCell<Option<Program>> = const { RefCell::new(None) };
}

/// Builds runtime and globals, to be snapshotted.
pub(crate) fn initialize() {
    let (runtime, context) = engine::new_runtime();
    context.with(|ctx| {
        if let Err(thrown) = globals::install(&ctx) {
            panic!("the global scope cannot be built: {thrown:?}");
        }
        ctx.run_gc();
    });
    PROGRAM.set(Some(Program { runtime, context, main: None, value: None, is_value: false }));
}

/// Starts the program.
pub(crate) fn execute(request: ExecuteRequest) -> Step {
    wasi::go_live();
    state::set_limits(&request.limits);
    intl::set_defaults(request.locale.as_deref(), request.time_zone.as_deref());
    state::with(|state| {
        // The generator must not start from zero, where it would stay.
        state.random = request.random_seed.max(1);
        state.source.clone_from(&request.source);
    });
    if request.value.is_some() {
        engine::want_value();
    }
    let context = PROGRAM.with_borrow_mut(|program| {
        let program = program.as_mut().expect("the component was pre-initialised");
        program.value = request.value;
        program
            .runtime
            .set_memory_limit(usize::try_from(request.limits.memory_bytes).unwrap_or(usize::MAX));
        program.context.clone()
    });
    context.with(|ctx| {
        engine::enter(&ctx, Some(request.limits.stack_bytes as usize));
        let module = match engine::compile_module(&ctx, request.source, &request.shifts) {
            Ok(module) => module,
            Err(thrown) => {
                engine::note_stack(&ctx, &thrown);
                return finished(&ctx, unparsed(failure(&ctx, thrown)));
            }
        };
        let started = globals::install_tools(&ctx, request.tools)
            .and_then(|()| engine::start_module(&ctx, &module));
        match started {
            Ok(promise) => {
                let promise = Persistent::save(&ctx, promise);
                PROGRAM.with_borrow_mut(|program| {
                    if let Some(program) = program {
                        program.main = Some(promise);
                    }
                });
                settle(&ctx)
            }
            Err(thrown) => {
                engine::note_stack(&ctx, &thrown);
                finished(&ctx, failure(&ctx, thrown))
            }
        }
    })
}

/// Delivers events in order; stops at the first that ends the program.
pub(crate) fn wait(events: Vec<Event>) -> Step {
    let context = PROGRAM.with_borrow(|program| {
        program.as_ref().expect("the component was pre-initialised").context.clone()
    });
    context.with(|ctx| {
        engine::enter(&ctx, None);
        let mut step = None;
        for event in events {
            deliver(&ctx, event);
            match settle(&ctx) {
                Step::Finished(end) => return Step::Finished(end),
                pending @ Step::Pending(_) => step = Some(pending),
            }
        }
        step.unwrap_or_else(|| settle(&ctx))
    })
}

/// The place of the top-level `await` at which the program is suspended.
pub(crate) fn awaiting() -> Option<String> {
    let context =
        PROGRAM.with_borrow(|program| program.as_ref().map(|program| program.context.clone()))?;
    let (line, column) = context.with(|ctx| engine::awaiting(&ctx))?;
    Some(format!("{}:{line}:{column}", engine::MODULE.to_string_lossy()))
}

fn deliver(ctx: &Ctx<'_>, event: Event) {
    match event {
        Event::CallSucceeded(end) => calls::succeeded(ctx, end),
        Event::CallFailed(end) => calls::failed(ctx, &end),
        Event::TimerFired(id) => {
            let callback = state::with(|state| state.timers.take(id));
            if let Some(callback) = callback
                && let Err(thrown) = engine::call_throwing(ctx, callback, None)
            {
                engine::note_stack(ctx, &thrown);
                if let Thrown::Value(exception) = thrown {
                    match failure_of(ctx, &exception) {
                        Outcome::Failed(text) => engine::fail(text),
                        Outcome::Limited(hit) => state::stop(Stop::Limit(hit.limit)),
                        Outcome::Completed | Outcome::Unparsed(_) => {}
                    }
                }
            }
        }
    }
}

/// Drains the jobs and checks whether the program has ended.
fn settle(ctx: &Ctx<'_>) -> Step {
    if !engine::must_stop() {
        engine::run_jobs(ctx);
    }
    let main =
        PROGRAM.with_borrow(|program| program.as_ref().and_then(|program| program.main.clone()));
    let Some(Ok(main)) = main.map(|main| main.restore(ctx)) else {
        return finished(ctx, unknown());
    };
    if engine::must_stop() {
        // A module without `await` hands what unwound it to its promise.
        if main.state() == PromiseState::Rejected {
            engine::note_stack(ctx, &Thrown::Uncatchable(reason_of(ctx, &main)));
        }
        return finished(ctx, stopped());
    }
    match main.state() {
        PromiseState::Pending => Step::Pending(state::with(|state| state.timers.next())),
        PromiseState::Resolved => completed(ctx, &main),
        PromiseState::Rejected => finished(ctx, failure_of(ctx, &reason_of(ctx, &main))),
    }
}

/// The program has completed; its value may have to be waited for.
fn completed<'js>(ctx: &Ctx<'js>, main: &Promise<'js>) -> Step {
    let (wanted, is_value) = PROGRAM.with_borrow(|program| {
        program.as_ref().map_or((false, false), |own| (own.value.is_some(), own.is_value))
    });
    if !wanted {
        return finished(ctx, Outcome::Completed);
    }
    let value = if is_value {
        reason_of(ctx, main)
    } else {
        let value = match engine::take_value(ctx) {
            Ok(value) => value,
            Err(thrown) => return finished(ctx, failure(ctx, thrown)),
        };
        if let Some(promise) = value.as_promise().cloned() {
            PROGRAM.with_borrow_mut(|program| {
                if let Some(program) = program {
                    program.main = Some(Persistent::save(ctx, promise));
                    program.is_value = true;
                }
            });
            return settle(ctx);
        }
        value
    };
    let request = PROGRAM.with_borrow_mut(|program| program.as_mut().and_then(|p| p.value.take()));
    let value = request.and_then(|request| value::taken(ctx, &value, request));
    if engine::must_stop() {
        return finished(ctx, stopped());
    }
    finished_with(ctx, Outcome::Completed, value)
}

fn reason_of<'js>(ctx: &Ctx<'js>, promise: &Promise<'js>) -> Value<'js> {
    match promise.result::<Value>() {
        Some(Ok(value)) => value,
        _ => ctx.catch(),
    }
}

/// The outcome of a program that could not start or whose start threw.
fn failure<'js>(ctx: &Ctx<'js>, thrown: Thrown<'js>) -> Outcome {
    if engine::must_stop() {
        return stopped();
    }
    match thrown {
        Thrown::Value(exception) => failure_of(ctx, &exception),
        Thrown::Text(text) => Outcome::Failed(text),
        _ => unknown(),
    }
}

/// The outcome of a program that could not be compiled.
fn unparsed(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Failed(text) if text.starts_with("SyntaxError") => Outcome::Unparsed(text),
        other => other,
    }
}

/// The outcome that the contract has for an end without a reason.
fn unknown() -> Outcome {
    Outcome::Failed("unknown code mode exception".to_owned())
}

/// The outcome of a program that threw `exception`.
fn failure_of<'js>(ctx: &Ctx<'js>, exception: &Value<'js>) -> Outcome {
    // Some of the engine's libraries fail for want of memory without an exception.
    if exception.type_of() == Type::Uninitialized {
        return Outcome::Limited(LimitHit { limit: Limit::Memory, stack: String::new() });
    }
    // Turning the exception into text runs the program's own code: getters, proxies,
    // `toString`. A limit that is met there is the end, and so is `exit()`.
    let text = exception_text(ctx, exception);
    if let Err(thrown) = &text {
        engine::note_stack(ctx, thrown);
    }
    match text {
        Ok(text) if !engine::must_stop() => Outcome::Failed(text),
        _ => stopped(),
    }
}

/// The outcome of a program that had to stop.
fn stopped() -> Outcome {
    state::with(|state| match &state.stop {
        Some(Stop::Failed(text)) => Outcome::Failed(text.clone()),
        Some(Stop::Limit(limit)) => {
            Outcome::Limited(LimitHit { limit: *limit, stack: state.stop_stack.clone() })
        }
        Some(Stop::Exit) => Outcome::Completed,
        None => unknown(),
    })
}

fn finished(ctx: &Ctx<'_>, outcome: Outcome) -> Step {
    finished_with(ctx, outcome, None)
}

fn finished_with(ctx: &Ctx<'_>, outcome: Outcome, value: Option<ProgramValue>) -> Step {
    let hint = hint::of(&outcome, &engine::unawaited(ctx));
    let stored = state::with(|state| state.stored.take());
    Step::Finished(Finished { outcome, hint, value, stored })
}
