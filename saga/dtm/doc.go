// Package dtm runs transactions on a DTM server, with the messages and the HTTP client of
// DTM's own client. Its [Engine] is a [saga.Engine]. A program moves between the embedded
// engine and a DTM server by changing the lines that open the engine. Its branches and the
// barriers in the services stay as they are. Package saga/dtm/server is the opposite: it
// serves the API of a DTM server on top of an embedded engine.
//
// The process that executes a transaction calls the Trys, in order. The DTM server keeps
// the log, makes the decision durable, and calls Confirm and Cancel by HTTP, at hosts of
// package remote. A branch in the process itself needs a host too, so that the server can
// call it.
//
// # What differs
//
//	                        embedded                         DTM server
//	the log                 in the user's database           in the server's
//	an order with all       one commit, shared with others   four requests or more to the
//	branches in one place                                    server, a commit per branch call
//	timeouts                any                              whole seconds; the server checks
//	                                                         them every few seconds
//	gid                     up to 128 characters             the same, without semicolons
//	payload of a branch     up to Config.MaxPayload          up to 64 KB
//	reason of a cancel      1,000 characters                 1,024 characters
//	branch ids              any                              digits, two per level
//	Confirms and Cancels    in parallel                      one after the other, last first
//	a branch without an     Confirm of the transaction       Confirm succeeds: the server
//	answer to its Try       is refused                       has no record of Trys. The
//	                                                         process that tried refuses it
//	signed calls            yes                              no: the server cannot sign
//	operators: pause,       yes                              by the server's own pages
//	resume, attention
//	finished transactions   removed after Config.Retention   stay in the server's tables
//
// # What can get lost
//
// DTM's own functions wait for an answer for as long as the process lives, and take no
// context. The Engine bounds each request and stops when the context ends. If the answer
// to a decision is lost, the Engine asks the server for the state of the transaction. If
// this gets no answer either, the error matches [saga.ErrUnknown]. The same call with the
// same gid finds out.
package dtm
