//! Whether spans are exported. Everything else about it the OpenTelemetry SDK reads from the environment by itself; what it
//! would only warn of is refused here.

use url::Url;

use crate::config::ConfigError;

/// Where to; either turns traces on.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// Whether the environment `variables` ask for traces. A variable that is empty is not set.
///
/// Source: OpenTelemetry, "Environment Variable Specification" and "OpenTelemetry Protocol Exporter".
pub(super) fn wanted(variables: &[(String, String)]) -> Result<bool, ConfigError> {
    let value = |name: &str| {
        let set = variables.iter().find(|(have, value)| have == name && !value.is_empty());
        set.map(|(_, value)| value.as_str())
    };
    let is_off = value("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"))
        || value("OTEL_TRACES_EXPORTER") == Some("none");
    if is_off || ENDPOINTS.into_iter().all(|name| value(name).is_none()) {
        return Ok(false);
    }
    for name in ENDPOINTS {
        let is_url = |text: &str| Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if value(name).is_some_and(|text| !is_url(text)) {
            return Err(invalid(name, "must be an http:// or https:// URL"));
        }
    }
    for name in PROTOCOLS {
        if value(name).is_some_and(|text| text != "http/protobuf") {
            return Err(invalid(name, "must be http/protobuf, the only protocol that spans are exported by"));
        }
    }
    if value("OTEL_TRACES_SAMPLER").is_some_and(|text| !SAMPLERS.contains(&text)) {
        return Err(invalid("OTEL_TRACES_SAMPLER", &format!("must be one of {}", SAMPLERS.join(", "))));
    }
    let is_ratio = |text: &str| text.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio));
    if value("OTEL_TRACES_SAMPLER_ARG").is_some_and(|text| !is_ratio(text)) {
        return Err(invalid("OTEL_TRACES_SAMPLER_ARG", "must be a number from 0 to 1"));
    }
    Ok(true)
}

fn invalid(name: &str, problem: &str) -> ConfigError {
    ConfigError::Invalid(format!("{name} {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

    fn asked(variables: &[(&str, &str)]) -> Result<bool, String> {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        wanted(&variables).map_err(|error| error.to_string())
    }

    #[test]
    fn an_endpoint_turns_traces_on_unless_they_are_turned_off() {
        assert_eq!(asked(&[]), Ok(false));
        assert_eq!(asked(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Ok(false));
        assert_eq!(asked(&[ENDPOINT]), Ok(true));
        assert_eq!(asked(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c/v1/traces")]), Ok(true));
        assert_eq!(asked(&[ENDPOINT, ("OTEL_SDK_DISABLED", "true")]), Ok(false));
        assert_eq!(asked(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]), Ok(false));
        let rest = [("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.25")];
        assert_eq!(asked(&[ENDPOINT, rest[0], rest[1]]), Ok(true));
    }

    #[test]
    fn what_the_sdk_would_only_warn_of_is_named() {
        for wrong in [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ] {
            let error = asked(&[ENDPOINT, wrong]).unwrap_err();
            assert!(error.contains(wrong.0), "{error}");
        }
    }
}
