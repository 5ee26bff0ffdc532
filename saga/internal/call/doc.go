// Package call calls the branches of transactions: alone, each call in a local transaction
// of its own, or in a batch, in a local transaction that several transactions share. It
// bounds each call in time and turns a panic into an error.
package call
