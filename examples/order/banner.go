package main

import (
	"net"
	"strings"
)

// banner says what the service runs on and what to try next.
func banner(s *Service, addr string) string {
	text := headText + tourText + operatorText + footText
	if s.public.Any() {
		text = headText + publicText + tourText + footText
		if _, port, err := net.SplitHostPort(addr); err == nil {
			addr = net.JoinHostPort(s.public[0], port) // addr may be that of all interfaces
		}
	}
	return strings.NewReplacer("ADDR", addr, "DB", s.backend.dbName, "NATS", s.backend.natsName, "HOSTS", s.public.String()).Replace(text)
}

const headText = `
Orders on tccsaga, at http://ADDR
  database  DB
  broker    NATS
`

const publicText = `
PUBLIC: whoever reaches it as HOSTS can order, pay, set the stock and read the notifications.
The pages of an operator (/, /transactions, /faults) are left out.
`

const tourText = `
Try, in another terminal (curl before 7.82: -H content-type:application/json -d for --json):

  curl -X PUT ADDR/stock/phone --json '{"available":10}'
  curl ADDR/orders --json '{"order_id":"1001","sku":"phone","quantity":1}'    # 201: done; 202: decided, and still under way
  curl ADDR/stock/phone                   # 9 available, 0 locked, 1 sold
  curl ADDR/notifications                 # what a consumer of the message has seen
  curl ADDR/orders --json '{"order_id":"1002","sku":"phone","quantity":99}'   # 409: short

Reserve now and pay later; unpaid, the stock comes back by itself:

  curl ADDR/reservations --json '{"order_id":"2001","sku":"phone","quantity":2,"pay_within":"15m"}'
  curl -X POST ADDR/reservations/2001/pay
  curl ADDR/reservations --json '{"order_id":"2002","sku":"phone","quantity":2,"pay_within":"5s"}'
`

const operatorText = `
Look into it, break it, and watch it recover (these pages serve only this machine):

  curl ADDR/transactions/order-1001                       # the transaction and its barrier rows
  curl ADDR/faults --json '{"broker_unreachable":true}'   # then order: 202; then set it to false
  curl ADDR/faults --json '{"fail_confirms":3}'           # then order: 202
  curl ADDR/transactions/order-ID/retry --json '{"who":"me","why":"it works again"}'   # not only at its next attempt
  curl ADDR/faults --json '{"die_after_decision":true}'   # then order; then start the service again
`

const footText = `
Stop with Ctrl-C; the data stays.

`
