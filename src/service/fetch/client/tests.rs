use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::tls;
use super::*;

const IMPATIENT: Patience = Patience {
    tries: 3,
    scale: 0.0,
    idle: Duration::from_millis(300),
    is_at_console: false,
};

fn client() -> Client {
    Client {
        tls: tls::config(Some(b""), &[]).unwrap(),
        proxies: Proxies::default(),
        headers: None,
        bearer: None,
        patience: IMPATIENT,
    }
}

/// What a server was asked, each request whole.
type Asked = Arc<Mutex<Vec<String>>>;

/// A server that answers the nth request (from 0) with these bytes and closes; where there are none it only closes.
async fn serve(answer: impl Fn(usize, &str) -> Vec<u8> + Send + 'static) -> (Target, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::read(&format!("http://{}/d/file?x=1", listener.local_addr().unwrap())).unwrap();
    let asked = Asked::default();
    let kept = asked.clone();
    tokio::spawn(async move {
        for nth in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let mut buffer = [0; 1024];
                match stream.read(&mut buffer).await {
                    Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
                    _ => break,
                }
            }
            let request = String::from_utf8(request).unwrap().to_ascii_lowercase();
            let bytes = answer(nth, &request);
            kept.lock().unwrap().push(request);
            stream.write_all(&bytes).await.ok();
            stream.shutdown().await.ok();
        }
    });
    (target, asked)
}

fn of(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat()
}

async fn download(client: &Client, target: &Target, limit: u64) -> Result<Vec<u8>, FetchError> {
    let mut file = Vec::new();
    let take = |piece: Piece<'_>| {
        match piece {
            Piece::Anew => file.clear(),
            Piece::Bytes(bytes) => file.extend_from_slice(bytes),
        }
        Ok(())
    };
    let length = client.download(target, &[], limit, take).await?;
    assert_eq!(length, file.len() as u64);
    Ok(file)
}

fn first_asked(request: &str) -> Option<usize> {
    let (_, range) = request.split_once("range: bytes=")?;
    range.split_once('-')?.0.parse().ok()
}

/// The file, from where it was asked, cut after so many bytes of the answer (head and all).
fn cut(file: &[u8], request: &str, bytes: usize) -> Vec<u8> {
    let mut answer = match first_asked(request) {
        Some(first) => of(
            &format!(
                "206 Partial Content\r\nETag: \"a\"\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{}/{}",
                file.len() - first,
                file.len() - 1,
                file.len()
            ),
            &file[first..],
        ),
        None => of(
            &format!("200 OK\r\nETag: \"a\"\r\nContent-Length: {}", file.len()),
            file,
        ),
    };
    answer.truncate(bytes);
    answer
}

fn file() -> Vec<u8> {
    (0..120_u8).collect()
}

#[tokio::test]
async fn a_server_that_cuts_at_any_byte_is_asked_for_the_rest() {
    let whole = cut(&file(), "", usize::MAX).len();
    for at in 0..whole {
        let (target, asked) =
            serve(move |nth, request| cut(&file(), request, if nth == 0 { at } else { usize::MAX })).await;
        assert_eq!(download(&client(), &target, 1000).await, Ok(file()), "cut at {at}");
        let (second, head) = (asked.lock().unwrap()[1].clone(), whole - file().len());
        match at > head {
            true => assert!(
                second.contains(&format!("range: bytes={}-", at - head)) && second.contains("if-range: \"a\""),
                "{second}"
            ),
            false => assert!(!second.contains("range:"), "{second}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_gives_one_byte_at_a_time_is_borne() {
    let (target, asked) = serve(|_, request| {
        let head = cut(&file(), request, usize::MAX);
        let end = head.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 5;
        cut(&file(), request, end)
    })
    .await;
    assert_eq!(download(&client(), &target, 1000).await, Ok(file()));
    assert_eq!(asked.lock().unwrap().len(), file().len());
}

#[tokio::test]
async fn a_server_that_brings_nothing_has_an_end() {
    let (target, asked) = serve(|_, request| match first_asked(request) {
        Some(first) => cut(
            &file(),
            request,
            cut(&file(), request, usize::MAX).len() - (120 - first),
        ),
        None => {
            let whole = cut(&file(), request, usize::MAX);
            whole[..whole.len() - 60].to_vec()
        }
    })
    .await;
    let error = download(&client(), &target, 1000).await.unwrap_err();
    assert!(error.to_string().contains("(3 tries)"), "{error}");
    // One that brought 60 bytes, and those that brought none.
    assert_eq!(asked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn another_file_begins_anew_and_a_wrong_part_is_not_taken() {
    let other: Vec<u8> = (0..120_u8).rev().collect();
    let (expected, sent) = (other.clone(), other);
    let (target, _) = serve(move |nth, request| match nth {
        0 => {
            let whole = cut(&file(), request, usize::MAX);
            whole[..whole.len() - 60].to_vec()
        }
        // From 61 where 60 was asked for.
        1 => of(
            "206 Partial Content\r\nETag: \"a\"\r\nContent-Range: bytes 61-119/120\r\nContent-Length: 59",
            &file()[61..],
        ),
        _ => of("200 OK\r\nETag: \"b\"\r\nContent-Length: 120", &sent),
    })
    .await;
    assert_eq!(download(&client(), &target, 1000).await, Ok(expected));
}

#[tokio::test]
async fn lengths_are_bounded_whatever_is_said() {
    let (target, asked) = serve(|_, _| of("200 OK\r\nContent-Length: 120", &file())).await;
    assert!(matches!(
        download(&client(), &target, 119).await,
        Err(FetchError::Refused(_))
    ));
    assert_eq!(asked.lock().unwrap().len(), 1, "it is not asked again");
    let (target, _) = serve(|_, _| of("200 OK", &file())).await;
    assert!(matches!(
        download(&client(), &target, 119).await,
        Err(FetchError::Refused(_))
    ));
    assert_eq!(download(&client(), &target, 120).await, Ok(file()));
    let (target, _) = serve(|_, _| of("200 OK\r\nContent-Length: 130", &file())).await;
    let error = download(&client(), &target, 1000).await.unwrap_err();
    assert!(matches!(error, FetchError::Refused(_)), "{error}");
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::read(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
                .await
                .ok();
            held.push(stream);
        }
    });
    let error = download(&client(), &target, 1000).await.unwrap_err();
    assert!(error.to_string().contains("nothing came for"), "{error}");
}

#[tokio::test]
async fn a_beginning_is_enough_to_know_a_file_by() {
    let long = vec![7_u8; PEEK_BYTES + 10];
    let total = long.len();
    let ranged = long.clone();
    let (target, asked) = serve(move |_, request| {
        assert!(
            request.contains(&format!("range: bytes=0-{}", PEEK_BYTES - 1)),
            "{request}"
        );
        let head = format!(
            "206 Partial Content\r\nContent-Range: bytes 0-{}/{total}\r\nContent-Length: {PEEK_BYTES}",
            PEEK_BYTES - 1
        );
        of(&head, &ranged[..PEEK_BYTES])
    })
    .await;
    let peeked = client().peek(&target, &[]).await.unwrap();
    assert_eq!(
        (peeked.total, peeked.head.len(), peeked.is_whole),
        (Some(total as u64), PEEK_BYTES, false)
    );
    assert_eq!(peeked.local, IpAddr::from([127, 0, 0, 1]));
    assert_eq!(asked.lock().unwrap().len(), 1);
    // One that knows no ranges, one that does not say the length, and one without a byte.
    let (target, _) = serve(move |_, _| of(&format!("200 OK\r\nContent-Length: {total}"), &long)).await;
    let peeked = client().peek(&target, &[]).await.unwrap();
    assert_eq!(
        (peeked.total, peeked.head.len(), peeked.is_whole),
        (Some(total as u64), PEEK_BYTES, false)
    );
    let (target, _) = serve(|_, _| of("200 OK", b"#!ipxe\n")).await;
    let peeked = client().peek(&target, &[]).await.unwrap();
    assert_eq!(
        (peeked.total, &peeked.head[..], peeked.is_whole),
        (None, &b"#!ipxe\n"[..], true)
    );
    let (target, _) = serve(|nth, _| match nth {
        0 => of(
            "416 Range Not Satisfiable\r\nContent-Range: bytes */0\r\nContent-Length: 0",
            b"",
        ),
        _ => of("200 OK\r\nContent-Length: 0", b""),
    })
    .await;
    let peeked = client().peek(&target, &[]).await.unwrap();
    assert_eq!((peeked.total, peeked.head.len(), peeked.is_whole), (Some(0), 0, true));
}

#[tokio::test]
async fn redirections_are_followed_within_bounds_and_out_of_tls_never() {
    let (target, _) = serve(|nth, _| match nth {
        0..10 => of("302 Found\r\nLocation: ../e/other\r\nContent-Length: 0", b""),
        _ => of("200 OK\r\nContent-Length: 1", b"x"),
    })
    .await;
    let peeked = client().peek(&target, &[]).await.unwrap();
    assert_eq!(peeked.target.path, "/e/other");
    let (target, asked) = serve(|_, _| of("301 Moved\r\nLocation: /again\r\nContent-Length: 0", b"")).await;
    let error = client().peek(&target, &[]).await.unwrap_err();
    assert!(
        matches!(&error, FetchError::Refused(why) if why.contains("more than 10 times")),
        "{error}"
    );
    assert_eq!(asked.lock().unwrap().len(), 11);
}

#[tokio::test]
async fn what_fails_for_now_is_tried_again_and_what_is_refused_is_not() {
    let (target, _) = serve(|nth, _| match nth {
        0 => of("503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1", b""),
        _ => of("200 OK\r\nContent-Length: 1", b"x"),
    })
    .await;
    assert_eq!(download(&client(), &target, 10).await, Ok(b"x".to_vec()));
    let (target, asked) = serve(|_, _| of("404 Not Found\r\nContent-Length: 0", b"")).await;
    assert_eq!(
        download(&client(), &target, 10).await.unwrap_err().to_string(),
        "the server answers 404 Not Found"
    );
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn headers_and_users_go_only_where_they_belong() {
    let (other, heard) = serve(|_, _| of("200 OK\r\nContent-Length: 1", b"x")).await;
    let elsewhere = other.as_str().to_owned();
    let (target, asked) =
        serve(move |_, _| of(&format!("302 Found\r\nLocation: {elsewhere}\r\nContent-Length: 0"), b"")).await;
    let with_user = target.as_str().replace("http://", "http://user:pw@");
    let target = Target::read(&with_user).unwrap();
    let mut client = client();
    let name = HeaderName::from_static("x-secret-key");
    client.headers = Some((target.clone(), vec![(name, HeaderValue::from_static("s3cret"))]));
    client
        .peek(&target, &[("a b".to_owned(), "c&d".to_owned())])
        .await
        .unwrap();
    let (first, second) = (asked.lock().unwrap()[0].clone(), heard.lock().unwrap()[0].clone());
    assert!(
        first.contains("x-secret-key: s3cret") && first.contains("authorization: basic"),
        "{first}"
    );
    assert!(
        first.starts_with("post /d/file?x=1 ") && !first.contains("range:"),
        "{first}"
    );
    assert!(
        !second.contains("s3cret") && !second.contains("authorization"),
        "{second}"
    );
    assert!(second.starts_with("get "), "{second}");
}

#[tokio::test]
async fn what_a_post_carries_stays_at_its_place() {
    let form = [("serial".to_owned(), "s3cret".to_owned())];
    for status in ["307 Temporary Redirect", "308 Permanent Redirect"] {
        let (other, heard) = serve(|_, _| of("200 OK\r\nContent-Length: 1", b"x")).await;
        let elsewhere = other.as_str().to_owned();
        let (target, asked) = serve(move |_, request| match request.starts_with("post /here ") {
            true => of("200 OK\r\nContent-Length: 1", b"x"),
            false if request.contains("?x=1") => {
                of(&format!("{status}\r\nLocation: {elsewhere}\r\nContent-Length: 0"), b"")
            }
            false => of(&format!("{status}\r\nLocation: /here\r\nContent-Length: 0"), b""),
        })
        .await;
        let error = client().peek(&target, &form).await.unwrap_err();
        assert!(
            matches!(&error, FetchError::Refused(why) if why.contains("not followed")),
            "{error}"
        );
        assert_eq!((asked.lock().unwrap().len(), heard.lock().unwrap().len()), (1, 0));
        // Another name at the same place is another matter, and so is a question without an answer of ours in it.
        let same = target.redirect("/there").unwrap();
        assert_eq!(client().peek(&same, &form).await.unwrap().target.path, "/here");
        assert!(client().peek(&target, &[]).await.is_ok());
    }
}

#[tokio::test]
async fn a_proxy_is_told_the_whole_url_and_its_own_user() {
    let (proxy, asked) = serve(|_, _| of("200 OK\r\nContent-Length: 1", b"x")).await;
    let mut client = client();
    let url = format!("http://u:p@{}", proxy.authority(true));
    client.proxies = Proxies::of(Some(&url), |_| None).unwrap();
    client
        .peek(&Target::read("http://nowhere.example/f?g").unwrap(), &[])
        .await
        .unwrap();
    let request = asked.lock().unwrap()[0].clone();
    assert!(
        request.starts_with("get http://nowhere.example/f?g http/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("proxy-authorization: basic dtpw") && request.contains("host: nowhere.example\r\n"),
        "{request}"
    );
    // And one that does not let us through.
    let (proxy, asked) = serve(|_, _| of("403 Forbidden\r\nContent-Length: 0", b"")).await;
    client.proxies = Proxies::of(Some(&proxy.authority(true)), |_| None).unwrap();
    let error = client
        .peek(&Target::read("https://nowhere.example/").unwrap(), &[])
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("the server answers 403") && error.to_string().starts_with("the proxy"),
        "{error}"
    );
    assert!(asked.lock().unwrap()[0].starts_with("connect nowhere.example:443 "));
}

#[tokio::test]
async fn a_port_without_tls_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::read(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // What no server of text understands.
            if stream.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {
                stream.write_all(&of("400 Bad Request", b"")).await.ok();
            }
        }
    });
    let error = client().peek(&target, &[]).await.unwrap_err();
    assert_eq!(
        error,
        FetchError::Refused("it does not speak TLS at this port: is it http:// there, or another port?".to_owned())
    );
}

#[tokio::test]
async fn a_port_with_tls_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::read(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if stream.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {
                // TLS 1.2, alert, fatal, decode_error (RFC 8446 §6).
                stream.write_all(&[21, 3, 3, 0, 2, 2, 50]).await.ok();
            }
        }
    });
    let error = client().peek(&target, &[]).await.unwrap_err().to_string();
    assert!(error.contains("is it https:// there"), "{error}");
}

/// A server that gives tokens t0, t1 … for a refresh token, and a client that asks it for those of another place.
async fn with_tokens(place: &Target) -> (Client, Asked) {
    let (url, asked) = serve(|nth, _| of("200 OK", format!("{{\"access_token\":\"t{nth}\"}}").as_bytes())).await;
    let bearer = Bearer::refreshed(place.clone(), url, "me", "refresh").unwrap();
    let client = Client {
        bearer: Some(bearer),
        ..client()
    };
    (client, asked)
}

#[tokio::test]
async fn a_token_that_is_too_old_is_replaced_and_the_request_sent_again() {
    // The second token is good, once.
    let (place, asked) = serve(|_, request| match request.contains("authorization: bearer t1\r\n") {
        true => of("200 OK", b"script"),
        false => of("401 Unauthorized", b""),
    })
    .await;
    let (client, tokens) = with_tokens(&place).await;
    // The first one is new, and nobody asks for another at once.
    let error = client.peek(&place, &[]).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the server answers 401 Unauthorized (it wants to know who asks")
    );
    assert_eq!((asked.lock().unwrap().len(), tokens.lock().unwrap().len()), (1, 1));
    // By the next request it is old.
    assert_eq!(client.peek(&place, &[]).await.unwrap().head, b"script");
    assert_eq!(client.peek(&place, &[]).await.unwrap().head, b"script");
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 4);
    assert!(
        asked[1].contains("bearer t0\r\n") && asked[2].contains("bearer t1\r\n"),
        "{asked:?}"
    );
    let tokens = tokens.lock().unwrap().clone();
    assert_eq!(tokens.len(), 2);
    assert!(
        tokens
            .iter()
            .all(|request| request.starts_with("post ") && !request.contains("authorization:"))
    );
}

#[tokio::test]
async fn a_token_goes_to_its_place_alone() {
    let (elsewhere, strange) = serve(|_, _| of("200 OK", b"image")).await;
    let location = format!("302 Found\r\nLocation: {}", elsewhere.as_str());
    let (place, asked) = serve(move |_, _| of(&location, b"")).await;
    let (client, tokens) = with_tokens(&place).await;
    assert_eq!(client.peek(&elsewhere, &[]).await.unwrap().head, b"image");
    assert_eq!(tokens.lock().unwrap().len(), 0, "nobody needed one");
    assert_eq!(
        client.peek(&place, &[]).await.unwrap().head,
        b"image",
        "by a redirection"
    );
    assert!(asked.lock().unwrap()[0].contains("authorization: bearer t0\r\n"));
    let strange = strange.lock().unwrap().clone();
    assert!(
        strange.len() == 2 && strange.iter().all(|request| !request.contains("authorization")),
        "{strange:?}"
    );
}

#[tokio::test]
async fn without_a_token_nothing_is_asked() {
    let long = vec![b' '; MAX_ANSWER_BYTES + 1];
    let (nobody, _) = serve(|_, _| Vec::new()).await;
    for (answer, tries, why) in [
        (of("200 OK", b"{}"), 1, "has no access_token"),
        (
            of("400 Bad Request", br#"{"error":"invalid_grant"}"#),
            1,
            "400 (invalid_grant): the refresh token may",
        ),
        (
            of("503 Service Unavailable", b""),
            3,
            "503 Service Unavailable (3 tries)",
        ),
        (of("200 OK", &long), 1, "more than 65536 bytes"),
        (
            of(&format!("307 Temporary Redirect\r\nLocation: {}", nobody.as_str()), b""),
            1,
            "not followed",
        ),
    ] {
        let (place, asked) = serve(|_, _| of("200 OK", b"script")).await;
        let (url, tokens) = serve(move |_, _| answer.clone()).await;
        let client = Client {
            bearer: Some(Bearer::refreshed(place.clone(), url, "me", "hunter2").unwrap()),
            ..client()
        };
        let error = client.peek(&place, &[]).await.unwrap_err().to_string();
        assert!(
            error.starts_with("no token from http://127.0.0.1:") && error.contains(why),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
        assert_eq!(
            (asked.lock().unwrap().len(), tokens.lock().unwrap().len()),
            (0, tries),
            "{why}"
        );
    }
}

#[tokio::test]
async fn the_server_of_tokens_may_be_that_of_the_files() {
    let (place, asked) = serve(|_, request| match request.starts_with("post ") {
        true => of("200 OK", br#"{"access_token":"x"}"#),
        false => of("200 OK", b"script"),
    })
    .await;
    let client = Client {
        bearer: Some(Bearer::refreshed(place.clone(), place.clone(), "me", "refresh").unwrap()),
        ..client()
    };
    assert_eq!(client.peek(&place, &[]).await.unwrap().head, b"script");
    assert_eq!(asked.lock().unwrap().len(), 2);
}
