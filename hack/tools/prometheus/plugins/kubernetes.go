// The one service discovery, beside static and file, that this Prometheus is built with.
// The build copies this file into the plugins package of the Prometheus module.
package plugins

import _ "github.com/prometheus/prometheus/discovery/kubernetes"
