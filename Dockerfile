# docker build -t sheepgate --build-arg VERSION=1.0.0 .
#
# In a container 127.0.0.1 is the container's own, so the address must be widened; it is written by whoever runs it, not here, because
# it is reached from outside then. Whoever calls needs a key all the same: there is none by default, and the first start prints the
# admin key once (docker logs). Published like this, only this machine gets there; a TLS proxy does the rest.
#
#   docker run -d --name sheepgate -p 127.0.0.1:8080:8080 -v sheepgate:/data --stop-timeout 35 \
#     -e SHEEPGATE_LISTEN=0.0.0.0:8080 -e OPENAI_API_KEY -e GOMEMLIMIT=1GiB --memory 1280m sheepgate
#
# A configuration is mounted at /etc/sheepgate/sheepgate.yaml. The image has one program:
#
#   docker exec sheepgate /sheepgate doctor
#   docker exec sheepgate /sheepgate backup - > sheepgate.tar.zst

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
RUN make build VERSION=$VERSION && mkdir -m 700 /empty && cp "$(go env GOROOT)/lib/time/zoneinfo.zip" /zoneinfo.zip

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /zoneinfo.zip /zoneinfo.zip
COPY --from=build /src/sheepgate /sheepgate
# A volume that is new takes the folder's owner and mode.
COPY --from=build --chown=65532:65532 /empty /data
COPY --from=build --chown=65532:65532 /empty /tmp
ENV SHEEPGATE_DATA=/data ZONEINFO=/zoneinfo.zip
WORKDIR /etc/sheepgate
USER 65532:65532
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s CMD ["/sheepgate", "doctor", "--serving"]
ENTRYPOINT ["/sheepgate"]
CMD ["serve"]
