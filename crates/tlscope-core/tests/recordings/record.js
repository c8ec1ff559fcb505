// Records what a real client and server (node) say to each other, and what each saw:
// `node record.js .` writes NAME.recording (S sent or R received, base64) and NAME.log.
const http=require('http'),http2=require('http2'),net=require('net'),zlib=require('zlib'),fs=require('fs');
const out=process.argv[2];
function body(n){let s='';for(let i=0;s.length<n;i++)s+=`line ${i} of ${n} \u00e9\n`;return s.slice(0,n);}
async function proxy(port,name,run){
  let lines=[];
  const p=net.createServer(c=>{const u=net.connect(port);
    c.on('data',d=>{lines.push('S '+d.toString('base64'));u.write(d)});
    u.on('data',d=>{lines.push('R '+d.toString('base64'));c.write(d)});
    c.on('end',()=>u.end());u.on('end',()=>c.end());c.on('error',()=>{});u.on('error',()=>{});});
  await new Promise(r=>p.listen(0,r));
  const log=await run(p.address().port);
  p.close();
  fs.writeFileSync(`${out}/${name}.recording`,lines.join('\n')+'\n');
  fs.writeFileSync(`${out}/${name}.log`,log.map(x=>JSON.stringify(x)).join('\n')+'\n');
}
const crypto=require('crypto');const crc=b=>crypto.createHash('sha1').update(b).digest('hex');
function answer(path,method){
  const n=parseInt(path.split('/').pop())||0;
  let h={'content-type':'text/plain','x-path':path},b=Buffer.from(body(n)),st=200;
  if(path.startsWith('/gzip')){h['content-encoding']='gzip';b=zlib.gzipSync(b)}
  if(path.startsWith('/br')){h['content-encoding']='br';b=zlib.brotliCompressSync(b)}
  if(path.startsWith('/deflate')){h['content-encoding']='deflate';b=zlib.deflateSync(b)}
  if(path.startsWith('/missing'))st=404;
  if(path.startsWith('/empty')){st=204;b=Buffer.alloc(0)}
  if(path.startsWith('/same')){st=304;b=Buffer.alloc(0)}
  return [st,h,b];
}
(async()=>{
  const s2=http2.createServer();
  s2.on('stream',(st,h)=>{const [code,hd,b]=answer(h[':path'],h[':method']);
    let req=[];st.on('data',d=>req.push(d));st.on('end',()=>{
    st.respond({':status':code,...hd},{endStream:b.length===0||h[':method']==='HEAD'});
    if(b.length&&h[':method']!=='HEAD'){let i=0;(function w(){if(i>=b.length)return st.end();st.write(b.subarray(i,i+700),()=>setImmediate(w));i+=700})()}})});
  await new Promise(r=>s2.listen(0,r));
  await proxy(s2.address().port,'node-http2',port=>new Promise(res=>{
    const c=http2.connect('http://localhost:'+port);let log=[],left=0;
    const kinds=['plain','gzip','br','deflate','missing','empty'];
    for(let i=0;i<60;i++){const path=`/${kinds[i%6]}/${i*97}`;const method=i%10===3?'POST':i%15===7?'HEAD':'GET';left++;
      const r=c.request({':method':method,':path':path,'user-agent':'node','x-n':String(i%4)},{endStream:method!=='POST'});
      let st;r.on('response',h=>st=h[':status']);let d=[];r.on('data',x=>d.push(x));
      const sent=method==='POST'?body(i*50):'';if(sent)r.end(sent);
      r.on('end',()=>{log.push({method,target:path,status:st,sent:Buffer.byteLength(sent),received:Buffer.concat(d).length,sha1:crc(Buffer.concat(d)),decoded:method==='HEAD'?0:answer(path)[0]===204?0:Buffer.byteLength(body(parseInt(path.split('/').pop())))});if(--left===0){c.close();setTimeout(()=>res(log),100)}});r.resume&&0}
  }));
  s2.close();
  const s1=http.createServer((q,r)=>{let n=0;q.on('data',d=>n+=d.length);q.on('end',()=>{const [code,hd,b]=answer(q.url,q.method);
    if(q.url.startsWith('/gzip')||q.url.startsWith('/chunk')){r.writeHead(code,hd);for(let i=0;i<b.length;i+=500)r.write(b.subarray(i,i+500));r.end()}
    else{r.writeHead(code,code===204||code===304?hd:{...hd,'content-length':b.length});r.end(b)}})});
  await new Promise(r=>s1.listen(0,r));
  await proxy(s1.address().port,'node-http1',async port=>{
    const agent=new http.Agent({keepAlive:true,maxSockets:1});let log=[];
    const kinds=['plain','gzip','chunk','br','missing','empty','same','deflate'];
    for(let i=0;i<40;i++){const path=`/${kinds[i%8]}/${i*89}`;const method=i%10===3?'POST':i%9===4?'HEAD':'GET';
      const sent=method==='POST'?body(i*60):'';
      await new Promise(res=>{const r=http.request({port,agent,method,path,headers:i%20===3?{expect:'100-continue'}:{}},resp=>{let d=[];resp.on('data',x=>d.push(x));resp.on('end',()=>{
        const b=Buffer.concat(d);log.push({method,target:path,status:resp.statusCode,sent:Buffer.byteLength(sent),received:b.length,sha1:crc(b),decoded:method==='HEAD'||[204,304].includes(resp.statusCode)?0:Buffer.byteLength(body(parseInt(path.split('/').pop())))});res()})});
        if(i%20===3){r.flushHeaders();r.on('continue',()=>r.end(sent))}else if(i%13===5&&method==='POST'){r.write(sent);r.end()}else r.end(sent)});}
    agent.destroy();return log;});
  s1.close();process.exit(0);
})();
