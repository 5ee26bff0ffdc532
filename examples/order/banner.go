package main

import (
	"net"
	"strings"
)

// banner returns what the service prints at its start: what it runs on, and what to try.
func banner(s *Service, addr string) string {
	text := headText + consoleText + tourText + operatorText + footText
	if s.public.Any() {
		text = headText + publicText + tourText + footText
		if _, port, err := net.SplitHostPort(addr); err == nil {
			addr = net.JoinHostPort(s.public[0], port) // addr may stand for all interfaces
		}
	}
	return strings.NewReplacer("ADDR", addr, "DB", s.backend.dbName, "NATS", s.backend.natsName, "HOSTS", s.public.String()).Replace(text)
}

const headText = `
Orders on tccsaga, at http://ADDR
  database  DB
  broker    NATS
`

const consoleText = `  console   http://ADDR/console
`

const publicText = `
PUBLIC: anybody who reaches HOSTS can order, pay, set the stock and read the notifications.
The operator's pages (/, /console, /transactions, /faults, /metrics) are left out.
`

const tourText = `
Try, in another terminal (curl before 7.82: -H content-type:application/json -d for --json):

  curl -X PUT ADDR/stock/phone --json '{"available":10}'
  curl ADDR/orders --json '{"order_id":"1001","sku":"phone","quantity":1}'    # 201: confirmed; 202: decided, and not finished yet
  curl ADDR/stock/phone                   # 9 available, 0 locked, 1 sold
  curl ADDR/notifications                 # the messages that a consumer has handled
  curl ADDR/orders --json '{"order_id":"1002","sku":"phone","quantity":99}'   # 409: not enough stock

Reserve now and pay later; the second reservation is given back after 5 seconds:

  curl ADDR/reservations --json '{"order_id":"2001","sku":"phone","quantity":2,"pay_within":"15m"}'
  curl -X POST ADDR/reservations/2001/pay
  curl ADDR/reservations --json '{"order_id":"2002","sku":"phone","quantity":2,"pay_within":"5s"}'
`

const operatorText = `
Make something fail, and see in the console why an order is not finished (only from this machine):

  curl ADDR/transactions/order-1001                       # the same for programs: the transaction and its barrier rows
  curl ADDR/faults --json '{"broker_unreachable":true}'   # an order is answered 202; then set it to false
  curl ADDR/faults --json '{"fail_confirms":3}'           # an order is answered 202
  curl ADDR/transactions/order-ID/retry --json '{"who":"me","why":"it works again"}'   # now, not at its next attempt
  curl ADDR/faults --json '{"die_after_decision":true}'   # an order ends the process; start it again

ADDR/metrics is for Prometheus; saga/otelsaga/monitoring has alert rules and a dashboard.
ADDR/healthz and ADDR/readyz are for an orchestrator of containers.
`

const footText = `
Stop with Ctrl-C; the data stays.

`
