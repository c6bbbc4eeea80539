//! What the program says of itself: a log on standard error, and with the feature `otlp` its
//! spans to a collector.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Which events are logged, as `tracing-subscriber` writes filters.
const LOG_VARIABLE: &str = "CELLBLOCK_LOG";

/// What is sent and not yet received is sent when this is dropped.
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    _export: Option<export::Export>,
}

/// Starts the log, and the export where the environment names a collector.
pub fn start() -> Telemetry {
    // What the library of MCP calls an error is one of a server or a client, and they or the model
    // are told of it.
    let usual = || "error,rmcp=off".into();
    let wanted = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| usual());
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(wanted);
    let subscriber = tracing_subscriber::registry().with(log);
    #[cfg(not(feature = "otlp"))]
    {
        subscriber.init();
        Telemetry {}
    }
    #[cfg(feature = "otlp")]
    match export::Export::start() {
        Ok(None) => {
            subscriber.init();
            Telemetry { _export: None }
        }
        Ok(Some(export)) => {
            subscriber.with(export.layer()).init();
            Telemetry { _export: Some(export) }
        }
        Err(error) => {
            subscriber.init();
            crate::complain(&format!("no spans are exported: {error:#}"));
            Telemetry { _export: None }
        }
    }
}

/// The trace that the work at hand is part of, as the header `traceparent` of W3C Trace Context
/// has it.
#[cfg(all(feature = "nats", feature = "otlp"))]
pub fn traceparent() -> Option<String> {
    use opentelemetry::trace::TraceContextExt;
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    let context = tracing::Span::current().context();
    let span = context.span().span_context().clone();
    let flags = span.trace_flags().to_u8();
    span.is_valid().then(|| format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id()))
}

/// Without spans there is no trace but one that the environment names, as `TRACEPARENT`.
#[cfg(all(feature = "nats", not(feature = "otlp")))]
pub fn traceparent() -> Option<String> {
    std::env::var("TRACEPARENT").ok().filter(|trace| trace.len() <= 64)
}

#[cfg(feature = "otlp")]
mod export {
    use anyhow::{Context, Result};
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::SpanExporter;
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use std::time::Duration;
    use tokio::runtime::Runtime;
    use tracing::Subscriber;
    use tracing_subscriber::Layer;
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::registry::LookupSpan;

    /// The variables of the OpenTelemetry specification that turn the export on.
    const ENDPOINTS: [&str; 2] =
        ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

    /// Names the program to the collector.
    const NAME_VARIABLE: &str = "OTEL_SERVICE_NAME";

    /// How long the last spans may take when the program ends.
    const FLUSH: Duration = Duration::from_secs(3);

    /// Spans on their way to a collector.
    pub struct Export {
        provider: SdkTracerProvider,
        /// Where the connection to the collector lives. Apart from the program's own, so that
        /// spans are sent until the end.
        _runtime: Runtime,
    }

    impl Export {
        /// Starts the export, if the environment names a collector.
        pub fn start() -> Result<Option<Self>> {
            let is_named = |name: &&str| std::env::var_os(name).is_some_and(|it| !it.is_empty());
            if !ENDPOINTS.iter().any(is_named) {
                return Ok(None);
            }
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("otlp")
                .enable_all()
                .build()
                .context("cannot start an event loop")?;
            let exporter = {
                let _entered = runtime.enter();
                SpanExporter::builder().with_tonic().build().context("the collector's address")?
            };
            let mut resource = Resource::builder();
            if !is_named(&NAME_VARIABLE) {
                resource = resource.with_service_name("cellblock");
            }
            let provider = SdkTracerProvider::builder()
                .with_batch_exporter(exporter)
                .with_resource(resource.build())
                .build();
            Ok(Some(Self { provider, _runtime: runtime }))
        }

        /// Receives the program's spans. Those of its libraries stay here.
        pub fn layer<S>(&self) -> impl Layer<S> + use<S>
        where
            S: Subscriber + for<'span> LookupSpan<'span>,
        {
            let own = Targets::new().with_target("cellblock", LevelFilter::INFO);
            let tracer = self.provider.tracer("cellblock");
            tracing_opentelemetry::layer()
                .with_tracer(tracer)
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_filter(own)
        }
    }

    impl Drop for Export {
        fn drop(&mut self) {
            if let Err(error) = self.provider.shutdown_with_timeout(FLUSH) {
                crate::complain(&format!("the last spans were not sent: {error}"));
            }
        }
    }
}
