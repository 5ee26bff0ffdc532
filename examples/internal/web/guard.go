// Package web is the HTTP side that the examples have in common: a server with
// limits, a guard against requests that a browser was tricked into, and answers
// in JSON that give nothing internal away.
package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
)

// Guard lets through to next what may come, and bounds the time for it.
//
// It refuses requests for a host that is neither this machine nor one of hosts:
// a page elsewhere may give its own name this machine's address, and would then
// be let in by the browser. It refuses requests that change something and come
// from a page of another origin.
func Guard(next http.Handler, hosts Hosts) http.Handler {
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusForbidden, "a page of another origin must not send this")
	}))
	next = origins.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local(r) && !slices.Contains(hosts, hostname(r.Host)) {
			write(w, http.StatusMisdirectedRequest, fmt.Sprintf("this service is not at the host %.80q", r.Host))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), RequestTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// write answers with an error outside gin.
func write(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": message})
}
