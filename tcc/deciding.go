package tcc

// deciding is a payload whose Try decides.
type deciding struct{ Payload }

// Deciding marks the payload of the branch whose Try decides: the transaction is confirmed if
// and only if the COMMIT of that Try has succeeded. It is for work in another service, such as
// the order itself:
//
//	tcc.Execute(ctx, engine, gid, stock.Lock{...}, message.Publish{...}, tcc.Deciding(PlaceOrder{...}))
//
// The Try is called last, and Deciding has to mark the last payload. Register its branch with
// [AsAction]. See [saga.Step]. For a function of your own, use LocalWork and LocalWorkIn of
// [saga.Options].
func Deciding(payload Payload) Payload { return deciding{payload} }
