// Package txn holds transactions in memory: their steps, the kinds of branches that are
// registered in a process, and how a transaction is made from a plan or from the log.
package txn
