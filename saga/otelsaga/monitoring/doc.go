// Package monitoring has no code. It holds what Prometheus and Grafana need to watch a
// service with package otelsaga: alerts.yaml has alert rules, and grafana.json a dashboard.
//
// # Set up
//
// The process exports its metrics; see package otelsaga, and examples/order. Prometheus 2.42
// or newer scrapes each instance:
//
//	scrape_configs:
//	  - job_name: order
//	    static_configs:
//	      - targets: [order-1:8080, order-2:8080]
//	rule_files: [alerts.yaml]
//
// In Grafana 10 or newer, import grafana.json and choose the data source.
//
// # Labels
//
// The rules and the dashboard need the label job, one for each service with a log of its own,
// and instance, one for each process. Prometheus sets both. They ignore other labels, such as
// those of the OpenTelemetry scope. If several clusters or environments share a Prometheus, let
// each have a job of its own, or add your label to each "by (job" of the rules.
//
// A gauge about the log, such as the number of transactions that need attention, is the same
// in each instance: take the maximum, not the sum. A counter belongs to one instance: add them
// up.
//
// # Thresholds
//
// Copy the file and change the rules that do not fit your service, above all these:
//
//	TccsagaOldestUndecided    one hour: must be above the longest timeout that you give
//	TccsagaOldestUnfinished   15 minutes: the engine calls for attention after 10
//	TccsagaOutboxLag          one minute: more if the broker may be away longer
//	TccsagaCallsFail          a fifth of more than 20 calls in five minutes
//
// The severity is critical if transactions do not go on, or if nobody would see it, and
// warning otherwise. The annotation runbook says what to look at: a page of the console, and
// the command that shows the same.
//
// # Tests
//
// The tests need promtool and prometheus, which Debian's package prometheus has. TestAlerts
// runs the unit tests of alerts_test.yaml, and TestAlertsAreGuarded breaks each rule and sees
// them fail. The tests of examples/order run the queries of the dashboard, and the rules, in a
// Prometheus that scrapes the example.
package monitoring
