//! What one connection may take, and how many there may be.

use std::time::Duration;

/// Limits of the listeners; [`Default`] holds the values for production, tests shorten the waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Open connections over all listeners; the next one waits in the kernel's queue until one leaves. A waiting
    /// listener holds one place itself. 20,000 streams at 20 KiB each are 400 MiB.
    pub connections_max: usize,
    /// From accept to the end of the TLS handshake. Three round trips to the far side of the world take one second.
    pub tls_handshake_timeout: Duration,
    /// From accept to the byte that tells HTTP/1 from HTTP/2 in clear text.
    pub protocol_timeout: Duration,
    /// From accept to the first complete request head (HTTP/1) or the first frame (HTTP/2).
    pub first_request_timeout: Duration,
    /// For each later HTTP/1 request head, counted from the end of the answer before: also how long a connection may
    /// idle. Longer than the 60 s of common load balancers, so that they are the side that closes.
    pub http1_head_timeout: Duration,
    /// Read and write buffer of an HTTP/1 connection in bytes, and so the longest request head.
    pub http1_buffer_bytes_max: usize,
    /// Concurrent streams of an HTTP/2 connection.
    pub http2_streams_max: u32,
    /// Header list of an HTTP/2 request in bytes, decoded.
    pub http2_header_list_bytes_max: u32,
    /// Upload that an HTTP/2 stream may have under way, in bytes.
    pub http2_stream_window_bytes: u32,
    /// Upload that an HTTP/2 connection may have under way, in bytes. Divided by the stream window it is the number of
    /// stalled uploads that the other streams of the connection survive: 16.
    pub http2_connection_window_bytes: u32,
    /// Bytes of an answer that one HTTP/2 stream holds while its reader is slow.
    pub http2_send_buffer_bytes_max: usize,
    /// Streams reset by the client that wait to be seen by us (rapid reset, CVE-2023-44487).
    pub http2_pending_resets_max: usize,
    /// Streams reset by us for the client's errors over the life of a connection (RUSTSEC-2024-0003).
    pub http2_error_resets_max: usize,
    /// Pause between two HTTP/2 pings. Shorter than the idle limit of NAT tables and load balancers.
    pub http2_ping_interval: Duration,
    /// How long the answer to a ping may take before the connection is closed.
    pub http2_ping_timeout: Duration,
    /// How long written bytes may stay unacknowledged by the peer's kernel: the only sign of a dead reader of an
    /// HTTP/1 stream.
    pub tcp_user_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            tls_handshake_timeout: Duration::from_secs(5),
            protocol_timeout: Duration::from_secs(5),
            first_request_timeout: Duration::from_secs(10),
            http1_head_timeout: Duration::from_secs(75),
            http1_buffer_bytes_max: 64 * 1024,
            http2_streams_max: 256,
            http2_header_list_bytes_max: 16 * 1024,
            http2_stream_window_bytes: 256 * 1024,
            http2_connection_window_bytes: 4 * 1024 * 1024,
            http2_send_buffer_bytes_max: 128 * 1024,
            http2_pending_resets_max: 20,
            http2_error_resets_max: 1024,
            http2_ping_interval: Duration::from_secs(20),
            http2_ping_timeout: Duration::from_secs(20),
            tcp_user_timeout: Duration::from_secs(30),
        }
    }
}
