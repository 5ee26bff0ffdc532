// Package web is the HTTP side of the examples: a server with limits, a guard against
// forged requests of browsers, and answers in JSON without internal details.
package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
)

// Guard passes allowed requests to next, with a time limit.
//
// It refuses requests for a host that is neither this machine nor one of hosts: a foreign
// page may resolve its own name to this machine's address, and the browser then allows its
// requests. It refuses requests that change something from a page of another origin.
func Guard(next http.Handler, hosts Hosts) http.Handler {
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusForbidden, "a page of another origin may not send this request")
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

// write answers with an error, without gin.
func write(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": message})
}
