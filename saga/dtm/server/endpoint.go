package server

import (
	"context"
	"net/http"
	"strings"
)

// base is the path of the API of a DTM server.
const base = "/api/dtmsvr/"

// endpoint is one endpoint of the API.
type endpoint struct {
	method string
	ask    func(*http.Request, Config) (*request, error) // reads the query of a GET
	parse  func([]byte, Config) (*request, error)        // reads the body of a POST
	handle func(*api, context.Context, *request) (any, error)
}

func noInput(*http.Request, Config) (*request, error) { return &request{}, nil }

func byViewer(handle func(viewer, context.Context, *request) (any, error)) func(*api, context.Context, *request) (any, error) {
	return func(a *api, ctx context.Context, in *request) (any, error) { return handle(a.viewer, ctx, in) }
}

// endpoints are the endpoints that the API serves. The table in doc.go is the same.
var endpoints = map[string]endpoint{
	"newGid":            {http.MethodGet, noInput, nil, (*api).newGID},
	"version":           {http.MethodGet, noInput, nil, (*api).version},
	"query":             {http.MethodGet, queryOf, nil, byViewer(viewer.query)},
	"all":               {http.MethodGet, listingOf, nil, byViewer(viewer.list)},
	"prepare":           {http.MethodPost, nil, parseRequest, (*api).prepare},
	"submit":            {http.MethodPost, nil, parseRequest, (*api).submit},
	"abort":             {http.MethodPost, nil, parseRequest, (*api).abort},
	"registerBranch":    {http.MethodPost, nil, parseRequest, (*api).registerBranch},
	"registerTccBranch": {http.MethodPost, nil, parseRequest, (*api).registerBranch}, // its names in old clients
	"registerXaBranch":  {http.MethodPost, nil, parseRequest, (*api).registerBranch},
	"resetNextCronTime": {http.MethodPost, nil, parseGID, byViewer(viewer.retry)},
}

// refusedEndpoints are the endpoints of a DTM server that the API refuses, and what to use
// instead.
var refusedEndpoints = map[string]string{
	"prepareWorkflow": "workflows run on a DTM server only",
	"forceStop":       "a transaction always ends consistently: an operator can use Decide and Resolve of the engine",
	"resetCronTime":   "pauses have a cap, MaxBackoff of the engine; for one transaction there is resetNextCronTime",
	"subscribe":       "topics are in the configuration of this server",
	"unsubscribe":     "topics are in the configuration of this server",
	"topic":           "topics are in the configuration of this server",
	"scanKV":          "topics are in the configuration of this server",
	"queryKV":         "topics are in the configuration of this server",
}

// refusedEndpoint returns the name of a refused endpoint, and what to use instead. The path
// of an endpoint may go on.
func refusedEndpoint(path string) (name, why string, refused bool) {
	name, _, _ = strings.Cut(path, "/")
	why, refused = refusedEndpoints[name]
	return name, why, refused
}
