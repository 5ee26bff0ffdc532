// Package dtm drives transactions by a DTM server, through DTM's own client. Its
// [Engine] is a [saga.Engine], so that a program moves from the embedded
// orchestrator to a DTM cluster, or back, by the lines that open the engine; its
// branches, package tcc, and the barrier in the services stay as they are. Package
// server, below, is the other way round: the API of a DTM server on top of an
// embedded orchestrator.
//
// The process that executes a transaction tries the branches, in order; the DTM
// server keeps the log, makes the decision durable, and calls Confirm and Cancel
// by HTTP, at hosts of package remote. Branches in the process itself are hosted
// by it, too, so that the server reaches them.
//
// # What differs
//
//	                        embedded                         DTM server
//	the log                 in the user's database           in the server's
//	an order with all       one commit, shared with others   four requests or more to the
//	branches in one place                                    server, a commit per branch call
//	timeouts                any                              whole seconds; the server looks
//	                                                         every few seconds
//	gid                     up to 128 characters             the same, without semicolons
//	payload of a branch     up to Config.MaxPayload          up to 64 KB
//	reason of a cancel      1,000 characters                 1,024 characters
//	branch ids              any                              digits, two per level
//	Confirms and Cancels    in parallel                      one after the other, last first
//	a branch without an     Confirm of the transaction       Confirm goes ahead: the server
//	answer to its Try       is refused                       does not know about Trys. The
//	                                                         process that tried refuses it
//	signed calls            yes                              no: the server cannot sign
//	operators: pause,       yes                              by the server's own pages
//	resume, attention
//	what finished           cleaned by Config.Retention      stays, in the server's tables
//
// # What can get lost
//
// The client waits for an answer for as long as its process lives, and takes no
// context; the Engine bounds each request and gives up when the context ends. An
// answer to a decision that was lost is resolved by asking the server what became
// of the transaction. Where even that gets no answer, the error matches
// [saga.ErrUnknown], and the same call with the same gid finds out.
package dtm
