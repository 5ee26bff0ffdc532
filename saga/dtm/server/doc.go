// Package server serves the API of a DTM server on top of an embedded
// orchestrator, so that programs written for DTM, in any language, run
// transactions without a DTM server:
//
//	api, err := server.New(orch, server.Config{Hosts: []string{"stock:8080"}})
//	http.ListenAndServe(":36789", api)
//
// It serves TCC: newGid, prepare, registerBranch, submit, abort, query and
// version, below /api/dtmsvr. A client opens a transaction with prepare, tells of
// each branch before it tries it, and decides with submit or abort. The branches
// are wherever the client says, at hosts that the configuration allows, and keep
// a barrier of their own: DTM's, or that of package remote.
//
// # What differs from a DTM server
//
//   - Other patterns than TCC, and the options branch_headers and custom_data, are
//     refused.
//   - retry_interval, retry_limit and request_timeout of a transaction are not
//     used: the orchestrator's own settings hold.
//   - Confirms and Cancels are called in parallel, not one after the other.
//   - submit and abort answer after every branch was called once, whether
//     wait_result is set or not. With it, a submit is answered 425 while a Confirm
//     still fails; the decision stands, and the Confirms go on.
//   - A submit of a gid that nobody has prepared is refused.
//
// A DTM server asks nobody who he is. Neither does this one: put it behind what
// authenticates, or on a network where all may use it.
package server
