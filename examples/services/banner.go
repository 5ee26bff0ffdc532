package main

import (
	"errors"
	"net/url"
	"strings"

	"github.com/tccsaga/tccsaga/examples/internal/redact"
)

// banner returns what the command prints at its start: where the services are, and what
// to try.
func banner(config Config) (string, error) {
	driver := "the embedded engine of the order service"
	if config.Engine == "dtm" {
		at, err := url.Parse(config.DTM)
		if err != nil {
			return "", errors.New("-dtm is not a URL") // the error is not wrapped: its text holds the URL
		}
		driver = "the DTM server at " + redact.URL(at)
	}
	text := headText + tourText + operatorText + footText
	if config.Public.Any() {
		text = headText + publicText + tourText + footText
		if config.Engine == "dtm" {
			text = headText + publicText + unsignedText + tourText + footText
		}
	}
	return strings.NewReplacer("ORDER", config.OrderURL, "STOCK", config.StockURL, "NOTIFICATION", config.NotificationURL,
		"DRIVER", driver, "HOSTS", config.Public.String()).Replace(text), nil
}

const headText = `
Three services. Their transactions are driven by DRIVER.
`

const publicText = `
PUBLIC: anybody who reaches HOSTS can order, set the stock, and read the orders.
The operator's pages (/transactions, /barrier) are left out.
`

const unsignedText = `A DTM server does not sign: anybody who reaches a service can call its branches, too.
`

const tourText = `
Try, in another terminal (curl before 7.82: -H content-type:application/json -d for --json):

  curl -X PUT STOCK/stock/phone --json '{"available":10}'
  curl ORDER/orders --json '{"order_id":"1001","sku":"phone","quantity":1,"email":"ann@example.com"}'   # 201: confirmed; 202: decided, and not finished yet
  curl STOCK/stock/phone                 # 9 available, 0 locked, 1 sold
  curl NOTIFICATION/notifications
  curl ORDER/orders

These orders are cancelled in all three services: one for the stock, one for the address:

  curl ORDER/orders --json '{"order_id":"1002","sku":"phone","quantity":99,"email":"ann@example.com"}'
  curl ORDER/orders --json '{"order_id":"1003","sku":"phone","quantity":1,"email":"none"}'
`

const operatorText = `
Look at a transaction (only from this machine):

  curl ORDER/transactions/order-1001
  curl STOCK/barrier/order-1001          # its barrier rows in the stock service
`

const footText = `
Kill a service with kill -9 while it works: it is started again, and every order
is placed in all three databases or in none.

Stop with Ctrl-C; the data stays.

`
