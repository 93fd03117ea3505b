//! What an operator sees: metrics, rules, alerts, the dashboard, and that the documents tell the truth of them.

mod alerts;
mod busy;
mod collector;
mod dashboard;
mod drawing;
mod metrics;
mod picture;
mod prometheus;
mod rules;
mod traces;
