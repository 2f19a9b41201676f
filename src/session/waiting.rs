//! For whom a flow works: the span of the request that waits for it, so that its OAuth calls are seen in that request's trace.

use crate::trace::SpanContext;

tokio::task_local! {
    static WAITER: Option<SpanContext>;
}

/// Runs what waits for flows on behalf of `waiter`'s span. A flow belongs to the first one that waits for it.
pub async fn on_behalf_of<T>(waiter: Option<SpanContext>, work: impl Future<Output = T>) -> T {
    WAITER.scope(waiter, work).await
}

/// The span of whoever waits here.
pub(super) fn waiter() -> Option<SpanContext> {
    WAITER.try_with(|waiter| *waiter).ok().flatten()
}
