<?php
// A Nextcloud as a load balancer meets it: status, maintenance mode, sessions in Redis, and enough
// of WebDAV with chunked uploads for clients that check every answer. One of several nodes that
// share a data folder. For `php -S`, which hands every request to this file.

$node = getenv('NODE');
$data = getenv('DATA');
$raw = explode('?', $_SERVER['REQUEST_URI'], 2)[0];
$path = rawurldecode($raw);
$method = $_SERVER['REQUEST_METHOD'];
header("X-Node: $node");

function answer(int $status, string $body = '', string $type = 'text/plain'): never
{
    http_response_code($status);
    header("Content-Type: $type");
    echo $body;
    exit;
}

function answer_json(array $value): never
{
    answer(200, json_encode($value), 'application/json');
}

$maintenance = file_exists("$data/maintenance");
if ($raw === '/status.php') {
    if (explode(':', $_SERVER['HTTP_HOST'] ?? '')[0] !== 'cloud.example') {
        answer(400, 'Trusted domain error');
    }
    answer_json([
        'installed' => true, 'maintenance' => $maintenance, 'needsDbUpgrade' => false,
        'version' => '33.0.1.2', 'versionstring' => '33.0.1', 'edition' => '',
        'productname' => 'Nextcloud',
    ]);
}
if ($maintenance) {
    header('Retry-After: 120');
    header('X-Nextcloud-Maintenance-Mode: 1');
    answer(503, 'maintenance');
}
if ($raw === '/whoami' || str_starts_with($raw, '/echo/')) {
    $headers = [];
    foreach ($_SERVER as $name => $value) {
        if (str_starts_with($name, 'HTTP_')) {
            $headers[strtolower(strtr(substr($name, 5), '_', '-'))] = $value;
        }
    }
    answer_json([
        'node' => $node, 'method' => $method, 'target' => $_SERVER['REQUEST_URI'],
        'headers' => $headers, 'body' => file_get_contents('php://input'),
    ]);
}
if ($raw === '/count') {
    session_start();
    $_SESSION['count'] = ($_SESSION['count'] ?? 0) + 1;
    answer_json(['node' => $node, 'count' => $_SESSION['count']]);
}
if ($raw === '/slow') {
    usleep(1000 * (int) $_GET['ms']);
    answer(200, $node);
}

$dav = '/remote.php/dav/';
if (!str_starts_with($path, $dav)) {
    answer(404);
}
if (str_contains($path, '/../')) {
    answer(403);
}
$root = "$data/dav/";
$file = rtrim($root . substr($path, strlen($dav)), '/');

// Where `Destination` points to: it names scheme and host, which must be those of the request.
function destination(string $dav, string $root): string
{
    $url = parse_url($_SERVER['HTTP_DESTINATION'] ?? '');
    $host = $url['host'] . (isset($url['port']) ? ':' . $url['port'] : '');
    if ($host !== $_SERVER['HTTP_HOST'] || !str_starts_with($url['path'], $dav)) {
        answer(502, "Destination is on $host, the request on " . $_SERVER['HTTP_HOST']);
    }
    return rtrim($root . substr(rawurldecode($url['path']), strlen($dav)), '/');
}

function copy_all(string $from, string $to): void
{
    if (!is_dir($from)) {
        copy($from, $to);
        return;
    }
    mkdir($to);
    foreach (array_diff(scandir($from), ['.', '..']) as $name) {
        copy_all("$from/$name", "$to/$name");
    }
}

function remove_all(string $file): void
{
    if (!is_dir($file)) {
        unlink($file);
        return;
    }
    foreach (array_diff(scandir($file), ['.', '..']) as $name) {
        remove_all("$file/$name");
    }
    rmdir($file);
}

function properties(string $href, string $file): string
{
    $length = is_dir($file) ? '' : '<d:getcontentlength>' . filesize($file) . '</d:getcontentlength>';
    $kind = is_dir($file) ? '<d:collection/>' : '';
    $href = htmlspecialchars($href);
    return "<d:response><d:href>$href</d:href><d:propstat><d:prop><d:resourcetype>$kind"
        . "</d:resourcetype>$length</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>"
        . '</d:response>';
}

switch ($method) {
    case 'OPTIONS':
        header('DAV: 1, 3, extended-mkcol');
        header('Allow: OPTIONS, GET, HEAD, DELETE, PROPFIND, PUT, PROPPATCH, COPY, MOVE, REPORT');
        answer(200);
    case 'GET':
    case 'HEAD':
        is_file($file) || answer(404);
        $size = filesize($file);
        $from = 0;
        if (preg_match('/^bytes=(\d+)-$/', $_SERVER['HTTP_RANGE'] ?? '', $range)) {
            $from = (int) $range[1];
            http_response_code(206);
            header("Content-Range: bytes $from-" . ($size - 1) . "/$size");
        }
        header('Content-Length: ' . ($size - $from));
        header('Content-Type: application/octet-stream');
        if ($method === 'GET') {
            $in = fopen($file, 'r');
            fseek($in, $from);
            fpassthru($in);
        }
        exit;
    case 'PUT':
        is_dir(dirname($file)) || answer(409);
        $existed = file_exists($file);
        $part = "$file.part" . getmypid();
        $length = file_put_contents($part, fopen('php://input', 'r'));
        $told = $_SERVER['CONTENT_LENGTH'] ?? $length;
        if ($length !== (int) $told) {
            unlink($part);
            answer(400, "got $length of $told bytes");
        }
        rename($part, $file);
        header('OC-ETag: "' . md5_file($file) . '"');
        answer($existed ? 204 : 201);
    case 'DELETE':
        file_exists($file) || answer(404);
        remove_all($file);
        answer(204);
    case 'MKCOL':
        file_exists($file) && answer(405);
        is_dir(dirname($file)) || answer(409);
        mkdir($file);
        answer(201);
    case 'COPY':
    case 'MOVE':
        $to = destination($dav, $root);
        $existed = file_exists($to);
        if ($existed && ($_SERVER['HTTP_OVERWRITE'] ?? 'T') === 'F') {
            answer(412);
        }
        // The second version of chunked uploads: what is moved is put together from its chunks.
        if ($method === 'MOVE' && basename($file) === '.file') {
            $chunks = array_diff(scandir(dirname($file)), ['.', '..']);
            sort($chunks, SORT_NATURAL);
            $sum = 0;
            $out = fopen("$to.part", 'w');
            foreach ($chunks as $chunk) {
                $sum += stream_copy_to_stream(fopen(dirname($file) . "/$chunk", 'r'), $out);
            }
            fclose($out);
            if ($sum !== (int) ($_SERVER['HTTP_OC_TOTAL_LENGTH'] ?? $sum)) {
                unlink("$to.part");
                answer(400, "$sum bytes in the chunks");
            }
            rename("$to.part", $to);
            remove_all(dirname($file));
            answer($existed ? 204 : 201);
        }
        file_exists($file) || answer(404);
        $existed && remove_all($to);
        $method === 'MOVE' ? rename($file, $to) : copy_all($file, $to);
        answer($existed ? 204 : 201);
    case 'PROPFIND':
    case 'REPORT':
        file_exists($file) || answer(404);
        $found = properties($raw, $file);
        if (is_dir($file) && ($_SERVER['HTTP_DEPTH'] ?? '1') !== '0') {
            foreach (array_diff(scandir($file), ['.', '..']) as $name) {
                $found .= properties(rtrim($raw, '/') . '/' . rawurlencode($name), "$file/$name");
            }
        }
        $xml = "<?xml version=\"1.0\"?><d:multistatus xmlns:d=\"DAV:\">$found</d:multistatus>";
        answer(207, $xml, 'application/xml; charset=utf-8');
    case 'PROPPATCH':
        file_exists($file) || answer(404);
        answer(207, '<?xml version="1.0"?><d:multistatus xmlns:d="DAV:"/>', 'application/xml');
    case 'LOCK':
        header('Lock-Token: <opaquelocktoken:1>');
        answer(200, '<?xml version="1.0"?><d:prop xmlns:d="DAV:"/>', 'application/xml');
    case 'UNLOCK':
        answer(($_SERVER['HTTP_LOCK_TOKEN'] ?? '') === '<opaquelocktoken:1>' ? 204 : 409);
    default:
        answer(405);
}
