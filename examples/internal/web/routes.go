package web

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"

	"github.com/gin-gonic/gin"
)

// New returns routes that always answer in JSON, also to an unknown path, a wrong method
// and a panic. A path may hold escaped slashes.
func New() *gin.Engine {
	r := gin.New()
	r.UseEscapedPath, r.UnescapePathValues = true, false // see Param
	r.RedirectTrailingSlash = false
	r.HandleMethodNotAllowed = true
	r.Use(recovered)
	r.NoRoute(func(c *gin.Context) { Fail(c, http.StatusNotFound, "there is no such page") })
	r.NoMethod(func(c *gin.Context) {
		Fail(c, http.StatusMethodNotAllowed, "the methods of this page: "+c.Writer.Header().Get("Allow"))
	})
	return r
}

// Get adds a page for GET and HEAD.
func Get(r *gin.Engine, path string, handler gin.HandlerFunc) {
	r.Match([]string{http.MethodGet, http.MethodHead}, path, handler)
}

// Param returns a part of the path. It may hold a slash. A plus stays a plus, which gin
// would read as a space.
func Param(c *gin.Context, name string) string {
	value, err := url.PathUnescape(c.Param(name))
	if err != nil {
		return c.Param(name)
	}
	return value
}

// recovered answers 500 if a handler panics, and logs why.
func recovered(c *gin.Context) {
	defer func() {
		why := recover()
		if why == nil {
			return
		}
		if err, ok := why.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(why) // net/http closes the connection
		}
		slog.Error("a request panicked", slog.String("method", c.Request.Method), slog.String("page", c.FullPath()),
			slog.Any("panic", why), slog.String("stack", string(debug.Stack())))
		Fail(c, http.StatusInternalServerError, "the service failed at this request; its log says why")
	}()
	c.Next()
}

// Fail answers with an error and ends the request.
func Fail(c *gin.Context, status int, message string) {
	c.AbortWithStatusJSON(status, gin.H{"error": message})
}

// Unavailable answers 503 with advice, and logs the error: the text of a database's error
// is not for callers.
func Unavailable(c *gin.Context, advice string, err error) {
	slog.Error("a request failed", slog.String("method", c.Request.Method), slog.String("page", c.FullPath()), slog.Any("error", err))
	c.Header("Retry-After", "1")
	Fail(c, http.StatusServiceUnavailable, advice)
}
