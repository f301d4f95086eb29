//! Everything that makes this cluster, for `bramble backup`.

use crate::api::access::Peer;
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use http::StatusCode;

/// `GET backup`. It holds every key in the clear (the client seals it), so the socket's file mode
/// is the only proof that is good enough: not what another node says of its client's socket, since
/// an agent would only have to say so to own the cluster.
pub(in crate::api) async fn backup(call: &Call) -> Result<Reply, ApiError> {
    if !matches!(call.peer, Peer::Unix) || call.aim.is_some() {
        return Err(ApiError::SocketOnly);
    }
    let source = call.api().backup.clone();
    // Encoding a large state takes a while.
    let made = tokio::task::spawn_blocking(move || source()).await;
    let failed = |error: &dyn std::error::Error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        ApiError::Backup(format!("{error}{cause}"))
    };
    let bytes = made.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
    Ok(reply::typed(StatusCode::OK, "application/octet-stream", bytes))
}
